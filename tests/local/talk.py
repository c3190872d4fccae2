"""Questions over a bare wire and a transport, for tests of what is behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from botbook._clock import FakeClock
from botbook._local.world import World
from botbook._net.transport import Transport
from botbook.actions import Ask
from botbook.events import Event
from botbook.wire.agent import AgentWire
from botbook.wire.contract import Ready, Wire
from botbook.wire.langbot import LangBotWire

AT = datetime(2026, 1, 2, tzinfo=UTC)


def wires(world: World, base: str = "http://localhost") -> dict[str, Wire]:
    """A client's wire for the agent and for LangBot."""
    known = world.credentials(base, gateway="langbot")
    return {
        "agent": AgentWire(base_url=world.credentials(base, gateway="agent")["base_url"]),
        "langbot": LangBotWire(
            base_url=known["base_url"], pipeline=known["pipeline_uuid"], workspace=known["workspace_uuid"]
        ),
    }


async def heard(wire: Wire, transport: Transport, until: Any, *, seconds: float = 5) -> list[Any]:
    """What comes until something is among it."""
    seen: list[Any] = []
    async with asyncio.timeout(seconds):
        while not any(until(item) for item in seen):
            seen += [item for frame in await transport.receive() for item in wire.receive(frame, at=AT)]
    return seen


async def opened(wire: Wire, dial: Any, token: str | None) -> Transport:
    opening = wire.opening(token)
    transport = await dial(opening)
    for frame in opening.frames:
        await transport.send(frame)
    await heard(wire, transport, lambda item: item == Ready())
    return transport


async def asked(wire: Wire, transport: Transport, text: str = "1 + 1", *, seconds: float = 5) -> Event:
    (frame, *_) = wire.send(Ask(id="q", text=text), at=AT)
    await transport.send(frame)
    seen = await heard(wire, transport, is_answer, seconds=seconds)
    return next(item for item in seen if is_answer(item))


class Listener:
    """Reads what comes over a transport while a clock that stands still is moved on.

    Args:
        wire: Reads the frames.
        clock: Moved on while nothing comes.
    """

    transport: Transport

    def __init__(self, wire: Wire, clock: FakeClock) -> None:
        self.wire = wire
        self.clock = clock
        self.seen: list[Any] = []

    async def until(self, done: Callable[[], Any], *, steps: int = 2000, step: float = 0.05) -> None:
        """Read until something holds; the clock goes `steps` times `step` seconds at the most."""
        reader = asyncio.create_task(self.read())
        try:
            for _ in range(steps):
                if done() or reader.done():
                    break
                await self.clock.advance(step)
        finally:
            reader.cancel()
            (end,) = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(end, Exception):
            raise end
        assert done()

    async def read(self) -> None:
        """Read for ever."""
        while True:
            for frame in await self.transport.receive():
                self.seen += self.wire.receive(frame, at=self.clock.now())


def is_answer(item: Any) -> bool:
    return isinstance(item, Event) and item.type == "message.received" and item.reply_to == "q"
