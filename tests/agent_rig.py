"""An embedded agent on the IO loop, in memory or behind a loopback port, and bots that ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from botbook import AsyncBot
from botbook._gateways import GATEWAYS, Gateway, told_if_busy
from botbook._local.server import Server, serve
from botbook._local.world import World
from botbook._net.loop import io_loop
from botbook.wire.agent import AgentWire


class Place:
    """An agent, and how to make bots of it.

    Attributes:
        world: Where the agent lives.
        base_url: Its address.
    """

    def __init__(self, world: World, server: Server | None, store: Path) -> None:
        self.world = world
        self.store = store
        self.base_url = server.description()["agent"]["base_url"] if server else "ws://localhost/"

    def bot(self, **options: Any) -> AsyncBot:
        """A bot that is not connected yet."""
        return AsyncBot("agent", **{"base_url": self.base_url, "store": self.store} | options)

    def fault(self, kind: str, **options: Any) -> None:
        self.world.fault(kind, gateway="agent", **options)

    def say(self, text: str, chat: str = "0") -> None:
        self.world._here(lambda: self.world.agent.say(text, chat=chat))

    def raw(self, *frames: str) -> None:
        """Have the agent send frames as they are."""
        for frame in frames:
            self.fault("raw", frame=frame)

    def asked(self) -> list[str]:
        """The questions that came."""
        return [entry["text"] for entry in self.world.log() if entry["what"] == "ask"]

    def count(self, what: str) -> int:
        """How many entries of one kind the log has."""
        return sum(entry["what"] == what for entry in self.world.log())

    @property
    def sockets(self) -> int:
        return self.world.agent.sockets


@asynccontextmanager
async def agent_place(kind: str, store: Path, *, speed: float = 50.0, **options: Any) -> AsyncIterator[Place]:
    """An agent, ``memory`` or ``loopback``."""
    io = io_loop()
    world = World(scenario="quiet", speed=speed, **options)
    await io.call(world.start())
    server = await io.call(serve(world)) if kind == "loopback" else None
    with pytest.MonkeyPatch.context() as patch:
        if server is None:
            patch.setitem(GATEWAYS, "agent", in_memory(world))
        try:
            yield Place(world, server, store)
        finally:
            world.reset()
            if server is not None:
                await io.call(server.close())
            await io.call(world.stop())


def in_memory(world: World) -> Any:
    """The gateway ``agent`` without sockets."""

    def parts(made: Any, clock: Any) -> Gateway:
        def wire(chat_id: str) -> AgentWire:
            return AgentWire(base_url="ws://localhost", chat_id=chat_id, name=made.name)

        dial = told_if_busy(world.dial)
        return Gateway(wire=wire(made.chat_id), dial=dial, http=world.http, open_chat=wire)

    return parts


async def until(truth: Any, seconds: float = 10.0) -> None:
    """Wait for something to be true."""
    async with asyncio.timeout(seconds):
        while not truth():
            await asyncio.sleep(0.005)
