"""Time that can be held still."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from botbook._clock import SYSTEM, FakeClock


async def test_sleepers_wake_in_order_and_time_stands_still_between():
    clock = FakeClock()
    start = clock.now()
    woken = []

    async def sleeper(seconds):
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(s)) for s in (3, 1, 2, 0)]
    await clock.settle()
    assert woken == [(0, 0.0)]
    assert clock.sleeping == [1, 2, 3]
    await clock.advance(2.5)
    assert woken == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert clock.now() - start == timedelta(seconds=2.5)
    tasks[0].cancel()
    await clock.settle()
    assert clock.sleeping == []
    await clock.advance(10)
    assert clock.monotonic() == 12.5


async def test_a_sleeper_may_sleep_again():
    clock = FakeClock()
    ticks = []

    async def ticker():
        for _ in range(3):
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticker())
    await clock.advance(3)
    assert ticks == [1.0, 2.0, 3.0]
    await task


async def test_the_systems_own_time():
    before = SYSTEM.monotonic()
    await SYSTEM.sleep(0)
    assert SYSTEM.monotonic() >= before
    assert SYSTEM.now().utcoffset() == timedelta(0)
