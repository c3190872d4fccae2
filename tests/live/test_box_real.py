"""Our client against the vendor's own runtimes (protocols/box.md 1, 7, 8).

A runtime that already runs is named by BOTBOOK_LIVE_BOX_0_5_0A2 or BOTBOOK_LIVE_BOX_0_7_18; else one is
started here, on Docker where there is one. 0.7.18 also runs without, 0.5.0a2 then executes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from botbook._errors import AuthError, NotSupported, SandboxError
from botbook.sandbox import AsyncBox
from tests.live.environments import environment

pytestmark = pytest.mark.live

DIALECTS = {"0.5.0a2": "legacy", "0.7.18": "tenant"}


@dataclass
class Peer:
    version: str
    url: str
    token: str | None
    executes: bool

    def client(self) -> AsyncBox:
        return AsyncBox(self.url, self.token, instance="botbook-live", workspace=secrets.token_hex(4))


async def has_docker() -> bool:
    if not shutil.which("docker"):
        return False
    process = await asyncio.create_subprocess_exec(
        "docker", "info", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.asynccontextmanager
async def started(version: str) -> AsyncIterator[Peer]:
    docker = await has_docker()
    python = await asyncio.to_thread(environment, "langbot-plugin", version)
    port, token = free_port(), secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as home:
        process = await asyncio.create_subprocess_exec(
            python.with_name("lbp"),
            "box",
            "--host",
            "127.0.0.1",
            "--ws-control-port",
            str(port),
            cwd=home,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={
                **os.environ,
                "LANGBOT_BOX_CONFIG": json.dumps({"backend": "docker" if docker else "host"}),
                "LANGBOT_BOX_CONTROL_TOKEN": token,
            },
        )
        try:
            for _ in range(120):
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.25)
            executes = docker or version != "0.5.0a2"
            yield Peer(version, f"ws://127.0.0.1:{port}", token, executes)
        finally:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), 20)


@pytest.fixture(params=list(DIALECTS))
async def peer(request) -> AsyncIterator[Peer]:
    version = request.param
    if url := os.environ.get(f"BOTBOOK_LIVE_BOX_{version.replace('.', '_').upper()}"):
        yield Peer(version, url, None, True)
    else:
        async with started(version) as found:
            yield found


async def test_the_whole_list(peer: Peer) -> None:
    async with peer.client() as box:
        assert await box.open() == DIALECTS[peer.version]
        assert (await box.doctor())[0]["how"] == "this runtime does not tell"
        if not peer.executes:
            with pytest.raises(SandboxError):
                await box.exec("true")
            return
        name = f"live-{secrets.token_hex(3)}"
        info = await box.create(name, read_only_rootfs=False, memory_mb=128)
        assert (info.session_id, info.memory_mb) == (name, 128)
        await commands(box, name)
        await files(box, name)
        await processes(box, name)
        await refusals(box, name, peer)
        await time_up(box, name)
        await box.delete(name)
        assert name not in [one.session_id for one in await box.sessions()]


async def commands(box: AsyncBox, name: str) -> None:
    result = await box.exec("echo out; echo err >&2; exit 3", session=name)
    assert (result.status, result.exit_code, result.stdout, result.stderr) == ("completed", 3, "out", "err")
    result = await box.exec("echo $A; pwd", session=name, env={"A": "b c"}, workdir="/tmp")
    assert result.stdout == "b c\n/tmp"
    seen: list[tuple[str, str]] = []
    result = await box.exec("echo x", session=name, on_output=lambda *piece: seen.append(piece))
    assert seen == [("stdout", "x")]
    result = await box.exec("head -c 1000000 /dev/zero | tr '\\0' a", session=name)
    assert len(result.stdout) == 1_000_000
    result = await box.exec("head -c 1000000 /dev/zero | tr '\\0' '\\1'", session=name)
    assert len(result.stdout) == 1_000_000  # 6 MB on the wire
    result = await box.exec("head -c 3000000 /dev/zero | tr '\\0' a", session=name)
    assert "bytes discarded]" in result.stdout
    assert "[...truncated...]" in result.shown()
    long = await box.exec("echo " + "y" * 60_000, session=name)
    assert len(long.stdout) == 60_000
    results = await asyncio.gather(*(box.exec(f"echo {at}", session=name) for at in range(5)))
    assert [one.stdout for one in results] == ["0", "1", "2", "3", "4"]


async def files(box: AsyncBox, name: str) -> None:
    data = os.urandom(200_000)
    assert await box.put(data, "deep/er/file.bin", session=name) == len(data)
    assert await box.get("deep/er/file.bin", session=name) == data
    with pytest.raises(SandboxError, match="no such file"):
        await box.get("nothing", session=name)


async def processes(box: AsyncBox, name: str) -> None:
    process = await box.start("cat", ["-u"], session=name, process="p", env={"K": "v"})
    await process.write_line("hello")
    assert await process.readline() == "hello"
    await process.write_line("two\nlines")
    assert [await process.readline(), await process.readline()] == ["two", "lines"]
    await process.write_line('{"jsonrpc": "2.0"}')
    assert await process.readline() == '{"jsonrpc": "2.0"}'
    assert (await process.info()).env_keys == ("K",)
    assert [one.process_id for one in await box.processes(name)] == ["p"]
    await process.stop()
    assert await process.readline() is None


async def refusals(box: AsyncBox, name: str, peer: Peer) -> None:
    for work, code in (
        (box.create(name, memory_mb=64), "BoxSessionConflictError"),
        (box.exec("  ", session=name), "BoxValidationError"),
        (box.exec("true", session="x", host_path="/etc"), "BoxValidationError"),
        (box.delete("nowhere"), "BoxSessionNotFoundError"),
        (box.call("box_get_managed_process", session_id=name), "BoxManagedProcessNotFoundError"),
        (box.call("box_nope"), "ValueError"),
    ):
        with pytest.raises(SandboxError) as caught:
            await work
        assert caught.value.code == code
    with pytest.raises(NotSupported):
        await box.exec("cat", session=name, stdin=b"x")
    if peer.version == "0.5.0a2":
        assert (await box.skill("list_skills"))["skills"] == []
    else:
        with pytest.raises(NotSupported):
            await box.skill("list_skills")
        with pytest.raises(AuthError):
            await AsyncBox(peer.url, "x" * 32, instance="somebody-else").open()


async def time_up(box: AsyncBox, name: str) -> None:
    assert not await box.keeps_files()
    await box.exec("echo kept > file", session=name)
    result = await box.exec("echo started; sleep 20", session=name, timeout=1)
    assert (result.status, result.exit_code, result.stdout) == ("timed_out", None, "started")
    again = await box.exec("cat file || echo gone", session=name)  # the whole specification went along
    assert again.stdout == "gone"
