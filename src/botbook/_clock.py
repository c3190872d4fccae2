"""Time as an argument: what waits or stamps takes a `Clock`, so that a test can hold it still."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

__all__ = ["SYSTEM", "Clock", "FakeClock", "SystemClock"]


class Clock(Protocol):
    """What the rest of botbook knows of time."""

    def monotonic(self) -> float:
        """Seconds that never step back."""
        ...

    def now(self) -> datetime:
        """The wall clock, in UTC with zone."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait, in seconds."""
        ...


class SystemClock:
    """The machine's own time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class FakeClock:
    """A clock that moves only when told to.

    Args:
        start: First value of `now`; default 2026-01-01 00:00 UTC.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start or datetime(2026, 1, 1, tzinfo=UTC)
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._elapsed

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move on, and wake those whose time has come, in order.

        Args:
            seconds: How far, in seconds.
        """
        target = self._elapsed + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, future = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self._elapsed = target

    @property
    def sleeping(self) -> list[float]:
        """Seconds until each sleeper wakes, soonest first."""
        return sorted(due - self._elapsed for due, _, future in self._sleepers if not future.done())

    @staticmethod
    async def settle(rounds: int = 20) -> None:
        """Let the tasks that can run do so."""
        for _ in range(rounds):
            await asyncio.sleep(0)


SYSTEM = SystemClock()
