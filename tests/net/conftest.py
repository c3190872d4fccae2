"""What the tests of a link share."""

from __future__ import annotations

import random
from typing import Any

import pytest

from botbook._clock import FakeClock
from botbook._net.auth import TokenSource
from botbook._net.link import Link
from tests.net.fakes import Peer, Wire


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def peer(clock: FakeClock) -> Peer:
    return Peer(clock)


@pytest.fixture
async def linked(wire: Wire, peer: Peer, clock: FakeClock, rng: random.Random) -> Any:
    """Makes links to `peer`; each has ``batches`` and ``states``, and is stopped at the end."""
    made: list[Link] = []

    def make(**options: Any) -> Any:
        batches: list[list[Any]] = []
        states: list[str] = []

        async def deliver(batch: list[Any]) -> None:
            batches.append(batch)

        given = {"dial": peer.dial, "tokens": TokenSource.fixed(None), "deliver": deliver, "clock": clock}
        link = Link(wire, **(given | {"rng": rng, "on_state": states.append} | options))
        link.batches, link.states = batches, states  # type: ignore[attr-defined]
        made.append(link)
        return link

    yield make
    for link in made:
        await link.stop()
