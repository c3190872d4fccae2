"""The only module that displays.

A block is shown once, on the main thread, and then updated from any thread through its display id:
the one way of writing whose place does not depend on the kernel's version (jupyter.md 3.3).
"""

from __future__ import annotations

import ast
import linecache
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from botbook._notebook.render import View, notice

__all__ = ["Block", "Surface", "is_statement"]

#: Longest wait between two updates of a block, in seconds (jupyter.md 3.3: at most 10 a second).
PERIOD: Final = 0.1
#: How often a wait tells its time, in seconds.
TICK: Final = 1.0


class Surface:
    """Shows views in the cell that runs."""

    def show(self, view: View) -> None:
        """Show a view once."""
        from IPython.display import display

        display(view)

    def block(self, view: View, *, period: float = PERIOD) -> Block:
        """Show a view that will change.

        Args:
            view: What to show first.
            period: Least time between two updates, in seconds.
        """
        from IPython.display import display

        return Block(display(view, display_id=True), period=period)

    @contextmanager
    def waiting(self, text: str) -> Iterator[Block | None]:
        """Say what is being waited for, and for how long already.

        Args:
            text: What happens, such as "Connecting to sim".

        Returns:
            A context manager with the block that its result takes the place in, or None where
            nobody looks because the value of the magic is taken.
        """
        if not is_statement():
            yield None
            return
        block = self.block(notice(f"{text} …"))
        ended = threading.Event()
        ticker = threading.Thread(target=_tick, args=(block, text, ended), daemon=True)
        ticker.start()
        try:
            yield block
        except BaseException:
            block.update(notice(f"{text}: not done."))
            raise
        finally:
            ended.set()
            ticker.join()  # so that no tick comes after the result
            block.close()

    @contextmanager
    def painted(self) -> Iterator[Painter]:
        """Something that is drawn anew as it changes, and once more if it fails.

        Where all goes well the last view is the caller's to show, in `Painter.block`.
        """
        painter = Painter(lambda view: self.block(view, period=0.0))
        try:
            yield painter
        except BaseException:
            painter.close()
            painter.show()
            raise
        painter.close()


class Painter:
    """Draws something that changes often, on a thread of its own, no faster than it can be drawn.

    Args:
        open_block: Shows the first view.

    Attributes:
        block: Where it is drawn, or None before the first view.
    """

    def __init__(self, open_block: Callable[[View], Block]) -> None:
        self.block: Block | None = None
        self._open_block = open_block
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._view: Callable[[], View] = lambda: notice("")

    def wake(self, _: object = None) -> None:
        """Something changed. Any thread; costs nothing."""
        self._changed.set()

    def draw(self, view: Callable[[], View]) -> None:
        """Show what `view` makes, from now on."""
        self._view = view
        self.block = self._open_block(view())
        self._thread = threading.Thread(
            target=self._paint, args=(self.block,), name="botbook-painter", daemon=True
        )
        self._thread.start()

    def _paint(self, block: Block) -> None:
        while not self._ended.is_set():
            self._changed.wait()
            self._changed.clear()
            began = time.monotonic()
            block.update(self._view())
            # What takes long to draw is drawn less often: at most a fifth of the time.
            self._ended.wait(max(PERIOD, 4 * (time.monotonic() - began)))

    def close(self) -> None:
        """Draw no more."""
        self._ended.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()

    def show(self) -> None:
        """Draw it once, now."""
        if self.block is not None:
            self.block.update(self._view())
            self.block.close()


def _tick(block: Block, text: str, ended: threading.Event) -> None:
    began = time.monotonic()
    while not ended.wait(TICK):
        block.update(notice(f"{text} … {time.monotonic() - began:.0f} s; the stop button ends it"))


class Block:
    """A displayed view that changes in place, from any thread, at most ten times a second.

    The last update always comes through; those in between may be left out.

    Args:
        handle: IPython's display handle; anything with ``update(view)``.
        period: Least time between two updates, in seconds.
    """

    def __init__(self, handle: Any, *, period: float = PERIOD) -> None:
        self._handle = handle
        self._period = period
        self._lock = threading.Lock()
        self._next: View | None = None
        self._timer: threading.Timer | None = None
        self._last = -period

    def update(self, view: View) -> None:
        """Show this one now, or as soon as the pace allows."""
        with self._lock:
            self._next = view
            if self._timer is not None:
                return
            wait = self._last + self._period - time.monotonic()
            if wait <= 0:
                self._flush()
            else:
                self._timer = threading.Timer(wait, self._late)
                self._timer.daemon = True
                self._timer.start()

    def close(self) -> None:
        """Show what waits, at once."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None
            self._flush()

    def _late(self) -> None:
        with self._lock:
            self._timer = None
            self._flush()

    def _flush(self) -> None:
        view, self._next = self._next, None
        if view is not None:
            self._last = time.monotonic()
            self._handle.update(view)


def is_statement() -> bool:
    """Whether the running magic stands alone on its line, so that nobody takes its value.

    ``df = %bot events`` wants the frame and no table; ``%bot events`` wants the table, wherever it
    stands in the cell, also where IPython would not show an expression.
    """
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller.f_code.co_name not in ("run_line_magic", "run_cell_magic"):
        caller = caller.f_back
    if caller is None or caller.f_back is None:
        return False
    return _stands_alone(caller.f_back.f_code.co_filename, caller.f_back.f_lineno)


def _stands_alone(filename: str, lineno: int) -> bool:
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError):
        return False
    return any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in ("run_line_magic", "run_cell_magic")
        and node.lineno <= lineno <= (node.end_lineno or node.lineno)
        for node in ast.walk(tree)
    )
