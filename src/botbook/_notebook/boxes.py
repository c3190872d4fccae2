"""The sandboxes that a notebook has open, and where their rows go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from botbook._clock import SYSTEM
from botbook._config import settings
from botbook._errors import StoreError

if TYPE_CHECKING:
    from botbook._journal import Journal
    from botbook.bot import Bot
    from botbook.sandbox import Box

__all__ = ["Boxes"]

#: Tab waits no longer for the names of sessions, in seconds.
TAB: Final = 0.5
#: Gateway and bot of rows that belong to no connection.
OWN: Final = "box"


class Boxes:
    """One sandbox for each profile, made on first use.

    Args:
        current: Gives the bot in whose journal commands are noted, or None.
    """

    def __init__(self, current: Callable[[], Bot | None]) -> None:
        self._current = current
        self._open: dict[str, Box] = {}
        self._journal: Journal | None = None

    def get(self, profile: str | None = None) -> Box:
        """The sandbox of a profile; without one that of BOTBOOK_BOX_URL or of the profile ``box``, else
        the one in this process.

        Raises:
            ConfigError: There is no such profile, or its address is unfit.
            StoreError: What runs could not be noted.
        """
        if self._current() is None:
            self._own()
        name = profile or ""
        if name not in self._open:
            from botbook.sandbox import Box

            found = settings("box", profile=name)
            self._open[name] = Box(
                found.base_url,
                found.token,
                instance=found.instance,
                workspace=found.workspace,
                audit=self._note,
            )
        return self._open[name]

    def sessions(self) -> list[str]:
        """Names of the sessions of every sandbox that is open; for Tab, so nothing is opened for it."""
        found: list[str] = []
        for box in self._open.values():
            listed = box.aio.home.run(box.aio.sessions(), timeout=TAB)
            found += [one.session_id for one in listed]
        return found

    def close(self) -> None:
        """End every session of our own runtime, and every connection. Harmless when closed already."""
        boxes, self._open = list(self._open.values()), {}
        for box in boxes:
            box.close()
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _note(self, row: dict[str, Any]) -> None:
        """Keep a command's row: in the journal of the current bot, else in one of our own."""
        from botbook._bus.own import exec_event

        if (bot := self._current()) is not None:
            with suppress(StoreError):  # it was closed meanwhile
                bot.audit(row)
                return
        self._own().keep([exec_event(row, gateway=OWN, bot=OWN, now=SYSTEM.now())])

    def _own(self) -> Journal:
        if self._journal is None:
            from botbook._journal import Journal

            self._journal = Journal(None, gateway=OWN, bot=OWN, clock=SYSTEM)
        return self._journal
