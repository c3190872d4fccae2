"""Bots on the embedded world, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from botbook import AsyncBot
from botbook._clock import FakeClock


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def bot(store: Path) -> AsyncIterator[AsyncBot]:
    async with AsyncBot("sim", scenario="quiet", store=store) as made:
        yield made


@pytest.fixture
async def timed(store: Path, clock: FakeClock) -> AsyncIterator[AsyncBot]:
    """A bot whose time, and whose world's, moves only when told to."""
    async with AsyncBot("sim", scenario="quiet", store=store, clock=clock) as made:
        yield made
