"""What a notebook has open: its bots, which one is the current, and how things are shown."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botbook._errors import CommandError
from botbook._notebook.boxes import Boxes
from botbook._notebook.cells import Cells
from botbook._notebook.surface import Surface

if TYPE_CHECKING:
    from botbook.bot import Bot

__all__ = ["Desk"]


class Desk:
    """The one state of the notebook layer.

    Args:
        shell: The IPython shell.
        surface: Where things are shown.
        connect: Opens a connection; default `botbook.bot.connect`, imported at the first call.

    Attributes:
        bots: Connections by name.
        boxes: The sandboxes.
        current: Name of the one that magics act on, or "".
        loan: What the last ``%%bot`` cell had at hand.
    """

    def __init__(
        self, shell: Any, *, surface: Surface | None = None, connect: Callable[..., Bot] | None = None
    ) -> None:
        self.shell = shell
        self.surface = surface or Surface()
        self.cells = Cells(shell)
        self.bots: dict[str, Bot] = {}
        self.boxes = Boxes(lambda: self.bots.get(self.current))
        self.current = ""
        self.loan: dict[str, Any] = {}
        self._connect = connect or _connect

    @property
    def names(self) -> dict[str, Any]:
        """The user's names."""
        names: dict[str, Any] = self.shell.user_ns
        return names

    def connect(self, gateway: str, options: Mapping[str, Any]) -> Bot:
        """Open a connection; it becomes the current one. One of the same name is closed first.

        Args:
            gateway: Which gateway.
            options: Settings that were given.
        """
        if replaced := self.would_replace(gateway, options):
            self.close(replaced.name)
        return self._add(self._connect(gateway, **options))

    def would_replace(self, gateway: str, options: Mapping[str, Any]) -> Bot | None:
        """The connection of the name that a new one would have."""
        return self.bots.get(options.get("name") or options.get("profile") or gateway)

    def bot(self, name: str = "") -> Bot:
        """A connection by name, or the current one.

        Raises:
            CommandError: There is none, or none of that name.
        """
        if name:
            return self.bots[self._known(name)]
        self._adopt()
        if not self.current:
            raise CommandError("nothing is connected", hint="Open a connection with %bot connect sim")
        return self.bots[self.current]

    def bot_or_sim(self) -> tuple[Bot, bool]:
        """The current bot; connects to ``sim`` where there is none, and says whether it did."""
        self._adopt()
        if self.current:
            return self.bots[self.current], False
        return self.connect("sim", {}), True

    def use(self, name: str) -> Bot:
        """Make a connection the current one."""
        self.current = self._known(name)
        return self.bots[name]

    def close(self, name: str) -> None:
        """Close a connection; the one opened last becomes the current."""
        bot = self.bots.pop(self._known(name))
        if self.current == name:
            self.current = next(reversed(self.bots), "")
        bot.stop()

    def close_all(self) -> list[str]:
        """Close every connection, and the loop of the cells. Returns the names."""
        names = list(self.bots)
        for name in names:
            self.close(name)
        self.cells.close()
        return names

    def _add(self, bot: Bot) -> Bot:
        self.bots[bot.name] = bot
        self.current = bot.name
        return bot

    def _adopt(self) -> None:
        """Take over ``bot`` of the user's names, if it was connected in Python and nothing is here."""
        module = sys.modules.get("botbook.bot")
        theirs = self.names.get("bot")
        if not self.current and module and isinstance(theirs, module.Bot) and theirs.status().state == "open":
            self._add(theirs)

    def _known(self, name: str) -> str:
        if name in self.bots:
            return name
        near = difflib.get_close_matches(name, self.bots, n=1)
        known = f"Open: {', '.join(self.bots) or 'none'}."
        raise CommandError(
            f"there is no connection {name!r}", hint=f"Did you mean {near[0]!r}?" if near else known
        )


def _connect(gateway: str, **options: Any) -> Bot:
    from botbook.bot import connect

    return connect(gateway, **options)
