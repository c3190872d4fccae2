"""An event loop that does not wait: where nothing is to be done, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple

__all__ = ["TimelessLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: What `asyncio.sleep` schedules. Any other timer is a limit: something else is waited for.
_SLEEP: Final = "_set_result_unless_cancelled"
#: Before a limit is reached by a jump, what is waited for has so long to come, in real seconds,
GRACE: Final = 0.1
#: and after so many limits at which nothing came, it has no time at all.
_GRACES: Final = 50


class TimelessLoop(asyncio.SelectorEventLoop):
    """Runs as fast as it can; an hour's sleep takes no time.

    Its clock stands still while code runs, and moves only by what is slept. While work is under way
    outside, in a thread or on a socket, it waits as any loop does. What another loop works on it
    cannot know of; so it waits a moment before it lets a limit pass.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._outside = 0
        self._order = itertools.count()
        self._sleeps: list[tuple[float, int, asyncio.TimerHandle]] = []
        super().__init__(_Skipping(self))

    def time(self) -> float:
        """Seconds slept so far."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Move the clock on, in seconds."""
        self._now += seconds

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As any loop does; sleeps are remembered."""
        handle = super().call_at(when, callback, *args, context=context)
        if getattr(callback, "__name__", "") == _SLEEP:
            heapq.heappush(self._sleeps, (when, next(self._order), handle))
        return handle

    @property
    def sleeps(self) -> bool:
        """Whether anything sleeps."""
        sleeps = self._sleeps
        while sleeps and (sleeps[0][2].cancelled() or sleeps[0][0] < self._now):
            heapq.heappop(sleeps)
        return bool(sleeps)

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
        self._graces = _GRACES

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # One file stands for the loop itself, which others wake it by.
        if timeout is None or self._loop.waits or len(self.get_map()) > 1:
            began = time.monotonic()
            found = super().select(timeout)
            self._loop.skip(time.monotonic() - began)
            return found
        found = super().select(0)
        if found or timeout <= 0:
            return found
        if self._graces and not self._loop.sleeps:
            found = super().select(min(timeout, GRACE))
            self._graces = _GRACES if found else self._graces - 1
        if not found:
            self._loop.skip(timeout)
        return found
