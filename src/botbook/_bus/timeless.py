"""An event loop that does not wait: where nothing is to be done, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["TimelessLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class TimelessLoop(asyncio.SelectorEventLoop):
    """Runs as fast as it can; an hour's sleep takes no time.

    Its clock stands still while code runs, and moves only by what is slept. While work is under way
    outside, in a thread or on a socket, it waits as any loop does.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._outside = 0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        """Seconds slept so far."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Move the clock on, in seconds."""
        self._now += seconds

    @property
    def waits(self) -> bool:
        """Whether something outside may yet wake it."""
        return self._outside > 0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As any loop does; counted, because it is waited for."""
        self._outside += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, _: asyncio.Future[Any]) -> None:
        self._outside -= 1


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: TimelessLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # One file stands for the loop itself, which others wake it by.
        if timeout is None or self._loop.waits or len(self.get_map()) > 1:
            began = time.monotonic()
            found = super().select(timeout)
            self._loop.skip(time.monotonic() - began)
            return found
        found = super().select(0)
        if not found:
            self._loop.skip(max(0.0, timeout))
        return found
