"""A client made of nothing but the wire, and a world whose clock stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from botbook._clock import FakeClock
from botbook._local.world import World
from botbook.wire.miti import MitiWire


class Client:
    """The wire, the memory door and one socket."""

    def __init__(self, world: World, clock: FakeClock) -> None:
        self.world = world
        self.wire = MitiWire(**world.credentials(), name="b", gateway="sim")
        self.clock = clock
        self.token = None
        self.transport = None

    async def exchange(self, request):
        return await self.world.http.exchange(request, token=self.token if request.authorised else None)

    async def log_in(self) -> None:
        request = self.wire.token_request()
        self.token = request.read(await self.exchange(request)).value

    async def connect(self) -> Client:
        if self.token is None:
            await self.log_in()
        self.transport = await self.world.dial(self.wire.opening(self.token))
        await self.clock.settle()
        return self

    @property
    def waiting(self) -> int:
        """How many frames have come and were not read yet."""
        return len(self.transport._inbox)

    async def frames(self) -> list:
        await self.clock.settle()
        async with asyncio.timeout(1):
            return await self.transport.receive()

    async def events(self) -> list:
        at = self.clock.now()
        return [got for frame in await self.frames() for got in self.wire.receive(frame, at=at)]

    async def do(self, action):
        """Send frames, or make the call and read its answer."""
        for out in self.wire.send(action, at=self.clock.now()):
            if isinstance(out, str):
                await self.transport.send(out)
            else:
                return out.read(await self.exchange(out))
        await self.clock.settle()
        return None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def world(clock) -> AsyncIterator[World]:
    made = World(scenario="quiet", clock=clock)
    yield made
    await made.stop()


@pytest.fixture
async def client(world, clock) -> Client:
    return await Client(world, clock).connect()


@pytest.fixture
def stranger(world, clock) -> Client:
    """A client that has not connected."""
    return Client(world, clock)
