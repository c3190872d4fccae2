"""The vendor's clients, unchanged, against the embedded Box runtime (protocols/box.md 14)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from botbook._local import box_server
from botbook._local.backends import BACKENDS
from tests.live.environments import environment

pytestmark = pytest.mark.live

CLIENT = Path(__file__).with_name("official_box_client.py")
IDENTITY = {
    "X-LangBot-Instance-Id": "inst-1",
    "X-LangBot-Workspace-Id": "ws-1",
    "X-LangBot-Placement-Generation": "1",
}
OLD, NEW = "0.5.0a2", "0.7.18"


async def works(backend: str) -> bool:
    made = BACKENDS[backend]()
    report = await made.probe()
    await made.close()
    return report.available


async def run(version: str, backend: str) -> dict:
    """The old client sends no headers, so its token stands in the path."""
    server, endpoint = await box_server.start(backend=backend)
    old = version == OLD
    settings = {
        "url": endpoint.plain_url if old else endpoint.url,
        "relay": (endpoint.plain_url if old else endpoint.url)
        .removesuffix("/rpc/ws")
        .replace("ws://", "http://"),
        "headers": {} if old else IDENTITY | {"X-LangBot-Box-Control-Token": endpoint.token},
        "context": not old,
    }
    python = await asyncio.to_thread(environment, "langbot-plugin", version)
    process = await asyncio.create_subprocess_exec(
        python, CLIENT, json.dumps(settings), stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        await server.close()
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("version", [OLD, NEW])
@pytest.mark.parametrize("backend", list(BACKENDS))
async def test_the_official_client_gets_along(version: str, backend: str) -> None:
    if not await works(backend):
        return
    steps = await run(version, backend)
    assert steps["backend"]["name"] == backend
    assert steps["create"]["session_id"] == "official"
    assert (steps["exec"]["exit_code"], steps["exec"]["stdout"], steps["exec"]["stderr"]) == (3, "out", "err")
    assert steps["env"]["stdout"].split() == ["a", "b", "/tmp"]
    assert steps["stayed"]["stdout"] == "kept"
    assert steps["large"]["stdout"] == 900_000
    assert steps["larger"]["stdout"] > 900_000
    assert steps["long"]["stdout"] == 60_000
    assert steps["cut"]["stdout"] == "after"
    assert (steps["timeout"]["status"], steps["timeout"]["exit_code"]) == ("timed_out", None)
    assert steps["after timeout"]["stdout"] == "alive"
    assert steps["conflict"]["error"] == "BoxSessionConflictError"
    assert steps["empty"]["error"] == "BoxValidationError"
    assert steps["blocked"]["error"] == "BoxValidationError"
    assert steps["missing"]["error"] == "BoxSessionNotFoundError"
    assert steps["status"]["active_sessions"] == 1
    assert [one["session_id"] for one in steps["sessions"]] == ["official"]
    assert steps["no process"]["error"] == "BoxManagedProcessNotFoundError"
    assert steps["start"]["env_keys"] == ["K"]
    assert steps["relay"] == ["one", "two", "three", "200000"]
    assert steps["process"]["status"] == "running"
    assert steps["stopped"]["error"] == "BoxManagedProcessNotFoundError"
    assert steps["deleted"]["error"] == "BoxSessionNotFoundError"
    assert steps["shutdown"] is None
