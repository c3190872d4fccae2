"""What the tests share: waiting, fast time, frames of a Miti gateway, and a world behind a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from botbook import AsyncBot
from botbook._clock import FakeClock
from botbook._local.server import Server, serve
from botbook._local.world import World
from botbook._net.loop import handler_loop, io_loop
from botbook.compat.miti import MitiAgent


async def until(truth: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for something to be true; the bound is for a machine that is busy elsewhere."""
    async with asyncio.timeout(seconds):
        while not truth():
            await asyncio.sleep(0.005)


async def pass_time(clock: FakeClock, seconds: float) -> None:
    """Move the bots' time on, on the loop where they wait."""
    await io_loop().call(clock.advance(seconds))


async def pass_until(
    clock: FakeClock, truth: Callable[[], Any], *, step: float = 0.25, limit: float = 200.0
) -> None:
    """Move the bots' time on, step by step, until something is true."""
    end = clock.monotonic() + limit
    while not truth():
        assert clock.monotonic() < end, f"not within {limit:g} s of the bots' time"
        await pass_time(clock, step)
        await asyncio.sleep(0.002)


def gate() -> tuple[asyncio.Event, Callable[[], None]]:
    """What handlers wait for, and how to open it from the test's loop."""
    event = asyncio.Event()
    return event, lambda: handler_loop().call_soon(event.set)


def envelope(event_type: Any, event: Any, event_id: str = "evt-x") -> str:
    """A frame as a gateway writes it."""
    header = {
        "event_id": event_id,
        "event_type": event_type,
        "app_id": "cli_sim",
        "create_time": "1767225600000",
    }
    return json.dumps({"schema": "1.0", "header": header, "event": event})


def push(world: World, frame: str) -> None:
    """Have the gateway send a frame."""
    world._here(lambda: world.miti.push(frame))


def sent(world: World, what: str) -> list[dict[str, Any]]:
    """What clients sent, of one kind."""
    return [entry for entry in world.log() if entry["what"] == what]


def answer_frames(world: World, kind: str) -> list[dict[str, Any]]:
    """Frames of streamed answers that came, of one kind, such as ``completed``."""
    frames = [entry["frame"] for entry in sent(world, "frame")]
    return [frame for frame in frames if frame["header"].get("event_type") == f"assistant.{kind}"]


def types(bot: AsyncBot) -> list[str]:
    """The types of all rows, in order."""
    return list(bot.events()["type"])


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[tuple[World, Server]]:
    """A quiet world behind a loopback port, on this loop."""
    world = World(scenario="quiet", **options)
    await world.start()
    server = await serve(world)
    try:
        yield world, server
    finally:
        world.reset()
        await server.close()
        await world.stop()


@asynccontextmanager
async def running(agent: MitiAgent) -> AsyncIterator[asyncio.Task[None]]:
    """Run an agent on this loop while the block lasts."""
    task = asyncio.create_task(agent.run_async(register_signals=False))
    try:
        await until(lambda: task.done() or (agent._bot and agent._bot.status().state == "open"))
        if task.done():
            await task
        yield task
    finally:
        await agent.close()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)
