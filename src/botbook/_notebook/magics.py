"""``%bot`` and ``%%bot``: the magic, and how it comes and goes."""

from __future__ import annotations

import re
from typing import Any, Final

from IPython.core.magic import no_var_expand

from botbook._notebook.args import parse
from botbook._notebook.complete import matcher
from botbook._notebook.desk import Desk
from botbook._notebook.show import dress_errors, shown, undress_errors
from botbook._notebook.surface import is_statement
from botbook._notebook.verbs import ACTIONS

__all__ = ["Face", "load", "unload"]

NAME: Final = "bot"
_CELL: Final = re.compile(rf"%%{NAME}(?=\s|$)")


class Face:
    """The magic of one shell.

    Args:
        desk: What the notebook has open.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.matcher = matcher(desk)

    def bot(self, line: str, cell: str | None = None) -> Any:
        """Chat bots in the notebook: `%bot -h` lists the verbs."""
        with shown(self.desk.shell):
            command = parse(line, cell, names=self.desk.names)
            outcome = ACTIONS[type(command)](self.desk, command)
            if out := getattr(command, "out", None):
                self.desk.names[out] = outcome.value
            if outcome.view is None:
                return outcome.value
            if not is_statement():
                return outcome.value
            if outcome.block is None:
                self.desk.surface.show(outcome.view)
            else:
                outcome.block.update(outcome.view)
                outcome.block.close()
            return None


no_var_expand(Face.bot)


def _line_for_empty_cell(lines: list[str]) -> list[str]:
    """``%%bot -h`` with nothing below is ``%bot -h``; IPython would not even call the magic."""
    if lines and _CELL.match(lines[0]) and not "".join(lines[1:]).strip():
        return [lines[0].removeprefix("%")]
    return lines


def load(shell: Any, desk: Desk | None = None) -> None:
    """Bring the magic, its completion and the empty-cell rule into a shell.

    Args:
        shell: The IPython shell.
        desk: What the notebook has open; default a new one.
    """
    unload(shell)
    face = Face(desk or Desk(shell))
    shell.register_magic_function(face.bot, magic_kind="line_cell", magic_name=NAME)
    shell.input_transformers_cleanup.append(_line_for_empty_cell)
    if face.matcher is not None:
        shell.Completer.custom_matchers.append(face.matcher)
    dress_errors(shell)


def unload(shell: Any) -> None:
    """Close every connection and sandbox, and take all of it out. Harmless where nothing is loaded."""
    magics = shell.magics_manager.magics
    face = getattr(magics["line"].get(NAME), "__self__", None)
    if not isinstance(face, Face):
        return
    del magics["line"][NAME], magics["cell"][NAME]
    shell.input_transformers_cleanup.remove(_line_for_empty_cell)
    if face.matcher is not None:
        shell.Completer.custom_matchers.remove(face.matcher)
    undress_errors()
    face.desk.boxes.close()
    face.desk.close_all()
