"""A quiet world behind a loopback port, and an agent of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from botbook.compat.miti import MitiAgent
from tests.defects.rig import running, served


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Any]:
    """``world``, ``server``, and ``agent(**options)`` to make agents of it."""
    async with served() as (world, server):

        def agent(**options: Any) -> MitiAgent:
            given = {**world.credentials(server.base), "store": tmp_path / "journal.sqlite"}
            return MitiAgent(**(given | options))

        yield SimpleNamespace(world=world, server=server, agent=agent, running=running)
