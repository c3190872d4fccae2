"""Ends in memory, and what is loaded late."""

from __future__ import annotations

import asyncio
import sys

import pytest

from botbook._errors import ConnectionLost
from botbook._net.transport import load, memory_pair


async def test_everything_that_arrived_comes_at_once_and_in_order():
    left, right = memory_pair()
    for frame in ("a", b"b", "c"):
        await left.send(frame)
    assert await right.receive() == ["a", b"b", "c"]
    await right.send("back")
    assert await left.receive() == ["back"]


async def test_receive_waits():
    left, right = memory_pair()
    waiting = asyncio.create_task(right.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    await left.send("a")
    assert await waiting == ["a"]


async def test_the_end_comes_after_the_last_frame():
    left, right = memory_pair()
    await left.send("a")
    await left.close(4001, "bye")
    await right.close(1000, "too late")
    assert await right.receive() == ["a"]
    for end in (left, right):
        with pytest.raises(ConnectionLost) as caught:
            await end.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "bye")
        with pytest.raises(ConnectionLost):
            await end.send("x")


async def test_the_end_wakes_a_reader():
    left, right = memory_pair()
    waiting = asyncio.create_task(right.receive())
    await asyncio.sleep(0)
    await left.close()
    with pytest.raises(ConnectionLost):
        await waiting


async def test_a_slow_reader_holds_the_sender_back():
    left, right = memory_pair()

    async def flood() -> None:
        for i in range(5000):
            await left.send(str(i))

    flooding = asyncio.create_task(flood())
    await asyncio.sleep(0)
    assert not flooding.done()
    first = await right.receive()
    assert len(first) == 4096
    await flooding
    assert len(await right.receive()) == 5000 - 4096


async def test_a_library_is_loaded_once(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    await load("colorsys")
    assert "colorsys" in sys.modules
    await load("colorsys")
