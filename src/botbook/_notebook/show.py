"""How an error looks: of a magic, two lines; of a method, the user's own lines and those two.

The hint comes first because nbmake's summary shows the last line (jupyter.md 3.6). The exception
keeps its own type, so ``except`` works; ``%tb`` in a later cell shows the whole traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from botbook._errors import BotbookError, BotInterrupted, excerpt
from botbook._notebook.render import clean

__all__ = ["dress_errors", "error_lines", "own_code_failed", "shown", "undress_errors"]

_PACKAGE: Final = str(Path(__file__).parents[1])


def error_lines(error: BaseException) -> list[str]:
    """The hint, then the error: one line each."""
    hint = getattr(error, "hint", "") or "`%tb` in the next cell shows the whole traceback."
    return [f"Hint: {_one_line(hint)}", f"{type(error).__name__}: {_one_line(str(error))}"]


def _one_line(text: str) -> str:
    return excerpt(" ".join(clean(text).split()), 400)


@contextmanager
def shown(shell: Any) -> Iterator[None]:
    """What is raised inside is shown as this module says.

    Args:
        shell: The IPython shell.

    Raises:
        BotInterrupted: In place of a KeyboardInterrupt.
    """
    cell = shell.execution_count
    try:
        yield
    except BotInterrupted:
        raise
    except KeyboardInterrupt:
        raise BotInterrupted from None
    except Exception as error:
        if "_render_traceback_" not in vars(error):
            _dress(error, partial(_short_now_long_later, shell, error, cell))
        raise


def own_code_failed(shell: Any, error: BaseException, filename: str) -> None:
    """Let an error of a cell's body look as in any other cell, without the lines of the magic.

    Args:
        shell: The IPython shell.
        error: What the body raised.
        filename: The name its code was compiled under.
    """
    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename != filename:
        start = start.tb_next
    inner = start or error.__traceback__
    _dress(error, lambda: _traceback(shell, error, inner))


def dress_errors(shell: Any) -> None:
    """Let an error of botbook that leaves a cell show the user's own lines, its hint and itself.

    What lies in botbook below them is of no use to its reader; ``%tb`` in a later cell shows it.

    Args:
        shell: The IPython shell.
    """

    def lines(error: BotbookError) -> list[str]:
        cell = vars(error).setdefault("_shown_in", shell.execution_count)
        if shell.execution_count != cell:
            return _traceback(shell, error, error.__traceback__)
        *above, last = _traceback(shell, error, _users_part(error.__traceback__))
        return [*above, f"Hint: {_one_line(error.hint)}", last] if error.hint else [*above, last]

    BotbookError._render_traceback_ = lines  # type: ignore[attr-defined]


def undress_errors() -> None:
    """Take that back. Harmless where it was not done."""
    if "_render_traceback_" in vars(BotbookError):
        del BotbookError._render_traceback_  # type: ignore[attr-defined]


def _users_part(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback down to the last line before those of botbook."""
    if traceback is None or traceback.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        return None
    rest = _users_part(traceback.tb_next)
    return TracebackType(rest, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)


def _dress(error: BaseException, lines: Callable[[], list[str]]) -> None:
    """Let IPython ask this one exception how it looks, whatever its class."""
    error._render_traceback_ = lines  # type: ignore[attr-defined]


def _short_now_long_later(shell: Any, error: BaseException, cell: int) -> list[str]:
    if shell.execution_count == cell:
        return error_lines(error)
    return _traceback(shell, error, error.__traceback__)


def _traceback(shell: Any, error: BaseException, traceback: TracebackType | None) -> list[str]:
    return list(shell.InteractiveTB.structured_traceback(type(error), error, traceback))
