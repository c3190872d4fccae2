"""The client against the embedded runtime over a backend made of nothing, and against peers of frames."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import time

import aiohttp
import pytest
from aiohttp import web

from botbook._errors import (
    AuthError,
    ConfigError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    NotSupported,
    SandboxError,
)
from botbook.sandbox import AsyncBox, Box
from tests.local.box_fakes import TOKEN, FakeBackend, served


class Peer:
    """A runtime of another make: answers by a table of action → data, or a callable."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.requests: list[dict] = []
        self.connections = 0
        self.answers: dict[str, object] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self.relays: list[list[str]] = []
        self.headers: dict[str, str] = {}

    def of(self, action: str) -> list[dict]:
        return [one["data"] for one in self.requests if one["action"] == action]

    async def rpc(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        self.headers = dict(request.headers)
        self.sockets.append(socket)
        async for message in socket:
            asked = json.loads(message.data)
            self.requests.append(asked)
            if (reply := self.reply(asked)) is not None:
                await socket.send_str(json.dumps({"seq_id": asked["seq_id"], **reply}))
        return socket

    def reply(self, asked: dict) -> dict | None:
        action = asked["action"]
        if self.dialect != "legacy" and action == "box_status" and "context" not in asked:
            return {"code": 1, "message": "PermissionError: needs context", "data": {}}
        if self.dialect == "tenant" and action == "box_list_skills":
            return {"code": 1, "message": f"ValueError: Action {action} not found", "data": {}}
        answer = self.answers.get(action, {})
        if callable(answer):
            answer = answer(asked["data"])
        if isinstance(answer, str):
            return {"code": 1, "message": answer, "data": {}}
        return None if answer is None else {"code": 0, "message": "success", "data": answer}

    async def relay(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for text in self.relays.pop(0):
            await socket.send_str(text)
        self.paths = request.path
        if self.relays:
            await socket.close(code=1011)
        else:
            await socket.close()
        return socket


@pytest.fixture(params=["legacy"])
async def peer(request):
    made = Peer(request.param)
    app = web.Application()
    app.router.add_get("/rpc/ws", made.rpc)
    app.router.add_get("/v1/sessions/{s}/managed-process/{p}/ws", made.relay)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def done(**more: object) -> dict:
    return {"session_id": "default", "backend_name": "x", "status": "completed", "exit_code": 0, **more}


@pytest.fixture
async def box():
    """Our client and our runtime."""
    backend = FakeBackend()
    async with served(backend) as world, AsyncBox(world.url, TOKEN) as client:
        client.backend = backend
        yield client


# ------------------------------------------------------------------ dialects


@pytest.mark.parametrize("peer", ["legacy", "tenant", "tenant+skills"], indirect=True)
async def test_the_dialect_is_found_by_asking(peer: Peer) -> None:
    async with AsyncBox(peer.url, "secret", instance="me", workspace="w", generation=3) as box:
        assert await box.open() == peer.dialect
        peer.answers["box_exec"] = done()
        await box.exec("true")
        context = {"instance_uuid": "me", "workspace_uuid": "w", "placement_generation": 3}
        sent = peer.requests[-1]
        assert sent.get("context") == (None if peer.dialect == "legacy" else context)
        assert sent["data"] == {"cmd": "true", "session_id": "default"}  # no key that is not needed
        assert peer.headers["X-LangBot-Instance-Id"] == "me"
        assert peer.headers["X-LangBot-Box-Control-Token"] == "secret"


async def test_a_row_for_each_command(peer: Peer) -> None:
    peer.answers["box_exec"] = done(stdout="é", duration_ms=5)
    rows: list[dict] = []
    async with AsyncBox(peer.url, audit=rows.append) as box:
        await box.exec("x" * 300)
    assert [rows[0][key] for key in ("session", "exit_code", "stdout_bytes", "duration_ms", "backend")] == [
        "default",
        0,
        2,
        5,
        "x",
    ]
    assert len(rows[0]["cmd"]) == 200


async def test_a_row_for_what_was_refused_or_given_up(box: AsyncBox) -> None:
    rows: list[dict] = []
    box._audit = rows.append
    await box.create()
    with pytest.raises(SandboxError):
        await box.exec("echo \udc80", network="on")
    waiting = asyncio.ensure_future(box.exec("never ends"))
    while not box.backend.cells["default"].children:
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    while len(rows) < 2:
        await asyncio.sleep(0.01)
    assert [(row["cmd"], row["status"]) for row in rows] == [
        ("echo ?", "failed"),
        ("never ends", "cancelled"),
    ]
    assert ["network=off" in row["error"] for row in rows] == [True, False]
    async with asyncio.timeout(5):
        while not box.backend.cells["default"].children[0].killed:
            await asyncio.sleep(0.01)


async def test_doctor_names_what_does_not_work(box: AsyncBox, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FakeBackend(available=False)
    made.name = "other"
    monkeypatch.setattr("botbook._local.backends.BACKENDS", {"other": lambda: made})
    rows = await box.doctor(every=True)
    assert rows[-1] == {"backend": "other", "protection": "", "on": False, "how": "there is no kernel"}


async def test_our_own_runtime_is_asked_for_more(box: AsyncBox) -> None:
    assert await box.open() == "botbook"
    assert await box.keeps_files()
    box.backend.answers["whole"] = (0, b" kept \n", b"")
    assert (await box.exec("whole")).stdout == " kept \n"


# ------------------------------------------------------------------ sessions and commands


async def test_the_whole_specification_goes_with_each_command(peer: Peer) -> None:
    peer.answers |= {"box_create_session": {"session_id": "s"}, "box_exec": done()}
    async with AsyncBox(peer.url) as box:
        await box.create("s", memory_mb=64, read_only_rootfs=False)
        await box.exec("true", session="s", timeout=5, env={"A": "1"}, workdir="/tmp")
        await box.exec("false", session="s")
        assert peer.of("box_exec") == [
            {
                "session_id": "s",
                "cmd": "true",
                "memory_mb": 64,
                "read_only_rootfs": False,
                "timeout_sec": 5,
                "env": {"A": "1"},
                "workdir": "/tmp",
            },
            {"session_id": "s", "cmd": "false", "memory_mb": 64, "read_only_rootfs": False},
        ]
        await box.delete("s")
        await box.exec("true", session="s")
        assert peer.of("box_exec")[-1] == {"session_id": "s", "cmd": "true"}


async def test_a_profile_holds_its_fields(peer: Peer) -> None:
    peer.answers["box_exec"] = done()
    async with AsyncBox(peer.url, profile="offline_readonly") as box:
        await box.exec("true", network="on", timeout=999)
        sent = peer.of("box_exec")[0]
        assert (sent["timeout_sec"], sent["memory_mb"], sent.get("network")) == (60, 256, None)
    with pytest.raises(SandboxError, match="no sandbox profile"):
        AsyncBox(peer.url, profile="x")


async def test_a_foreign_runtime_gives_its_output_at_the_end(peer: Peer) -> None:
    peer.answers["box_exec"] = done(stdout="out", stderr="err")
    seen: list[tuple[str, str]] = []
    async with AsyncBox(peer.url) as box:
        result = await box.exec("x", on_output=lambda *piece: seen.append(piece))
        assert seen == [("stdout", "out"), ("stderr", "err")]
        assert (result.session, result.ok, result.shown()) == ("default", True, "out\nerr")
        with pytest.raises(NotSupported):
            await box.exec("cat", stdin="x")
        assert not await box.keeps_files()
        peer.answers["box_get_backend_info"] = {"name": "docker"}
        assert (await box.doctor())[0]["backend"] == "docker"


async def test_output_arrives_while_it_runs(box: AsyncBox) -> None:
    seen: list[tuple[str, str]] = []
    running = asyncio.ensure_future(
        box.exec("run", session="s", stdin="in", on_output=lambda *piece: seen.append(piece))
    )
    child = await child_of(box)
    child.stdout.feed_data(b"now\n")
    for _ in range(100):
        if seen:
            break
        await asyncio.sleep(0.01)
    assert seen == [("stdout", "now\n")]
    assert not running.done()
    child.end(2)
    result = await running
    assert (result.exit_code, result.stdout, child.stdin.data) == (2, "now\n", b"in")


async def child_of(box: AsyncBox, session: str = "s"):
    for _ in range(300):
        if session in box.backend.cells and box.backend.cells[session].children:
            return box.backend.cells[session].children[-1]
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was started")


async def test_a_cancelled_call_ends_the_command(box: AsyncBox) -> None:
    running = asyncio.ensure_future(box.exec("run", session="s"))
    child = await child_of(box)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for _ in range(100):
        if child.killed:
            break
        await asyncio.sleep(0.01)
    assert child.killed
    assert (await box.exec("true", session="s")).ok


async def test_errors_keep_their_names(box: AsyncBox) -> None:
    await box.create("s")
    for work, code in (
        (box.create("s", memory_mb=64), "BoxSessionConflictError"),
        (box.delete("nowhere"), "BoxSessionNotFoundError"),
        (box.exec(" ", session="s"), "BoxValidationError"),
        (box.exec("true", session="m", host_path="/etc"), "BoxValidationError"),
        (box.call("box_nope"), "ValueError"),
        (box.exec("true", session="s", memory_mb="much"), "BoxValidationError"),
    ):
        with pytest.raises(SandboxError) as caught:
            await work
        assert caught.value.code == code
    assert [one.session_id for one in await box.sessions()] == ["s"]
    assert {row["protection"] for row in await box.doctor()} >= {"memory", "files"}


# ------------------------------------------------------------------ connection


async def test_a_refused_token_is_final() -> None:
    async with served(FakeBackend()) as world:
        with pytest.raises(AuthError):
            await AsyncBox(world.url, "wrong").open()


async def test_nobody_there() -> None:
    with pytest.raises(ConnectError):
        await AsyncBox("ws://127.0.0.1:9").open()
    with pytest.raises(ConfigError):
        AsyncBox("ws://example.org")
    with pytest.raises(ConfigError):
        AsyncBox("ftp://127.0.0.1")


async def test_a_lost_connection_fails_what_waits_and_comes_back(peer: Peer) -> None:
    peer.answers["box_exec"] = None
    async with AsyncBox(peer.url) as box:
        waiting = asyncio.ensure_future(box.exec("x"))
        while not peer.of("box_exec"):
            await asyncio.sleep(0.01)
        await peer.sockets[0].close(code=1011)
        with pytest.raises(ConnectionLost):
            await waiting
        peer.answers["box_exec"] = done()
        assert (await box.exec("x")).ok
        assert peer.connections == 2


async def test_strays_are_dropped(peer: Peer) -> None:
    async with AsyncBox(peer.url) as box:
        for text in ("not json", '{"seq_id": 99, "code": 0}', '{"seq_id": 1, "action": "__ping"}'):
            await peer.sockets[0].send_str(text)
        assert await box.call("box_status") == {}
        assert box._link.strays == 3


async def test_no_answer_in_time_cancels(peer: Peer) -> None:
    peer.answers["box_shutdown"] = None
    async with AsyncBox(peer.url) as box:
        with pytest.raises(DeadlineExceeded):
            await box.call("box_shutdown", timeout=0.05)
        assert await box.call("__ping") == {}
        assert peer.of("__cancel_action")


# ------------------------------------------------------------------ processes


async def test_a_managed_process(box: AsyncBox) -> None:
    process = await box.start("cat", ["-u"], session="s", process="p", env={"K": "v"})
    child = await child_of(box)
    await process.write_line("in")
    child.stdout.feed_data(b"one\ntwo\n")
    assert [await process.readline(), await process.readline()] == ["one", "two"]
    for _ in range(100):
        if child.stdin.data:
            break
        await asyncio.sleep(0.01)
    assert child.stdin.data == b"in\n"
    assert (await process.info()).status == "running"
    assert [one.process_id for one in await box.processes("s")] == ["p"]
    child.terminate = child.end
    await process.stop()
    assert await process.readline() is None
    with pytest.raises(ConnectionLost):
        await process.write_line("late")


async def test_a_process_that_ends_by_itself(box: AsyncBox) -> None:
    process = await box.start("x", session="s")
    (await child_of(box)).end(0, out=b"a\nrest")
    assert [line async for line in process] == ["a", "rest"]


@pytest.mark.parametrize("peer", ["legacy", "tenant"], indirect=True)
async def test_a_relay_that_breaks_is_opened_again(peer: Peer) -> None:
    framed = peer.dialect == "legacy"
    peer.answers |= {
        "box_create_session": {"session_id": "default"},
        "box_start_managed_process": {"session_id": "default"},
        "box_get_managed_process": {"session_id": "default", "status": "running"},
    }
    peer.relays = [["one"], ["two"]] if framed else [["on", "e\n"], ["two\n"]]
    async with AsyncBox(peer.url, instance="i", workspace="w") as box:
        process = await box.start("x")
        assert [await process.readline(), await process.readline(), await process.readline()] == [
            "one",
            "two",
            None,
        ]
        assert ("ws-" in peer.paths) is not framed


# ------------------------------------------------------------------ files


class Shell:
    """Enough of a session for files: the text of each command, and what it would do."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.inputs: list[bytes] = []

    def answer(self, data: dict) -> dict:
        self.commands.append(data["cmd"])
        if "tail -c +1 " in data["cmd"]:
            return done(stdout=base64.b64encode(b"x" * 750_000).decode())
        if "tail" in data["cmd"]:
            return done(stdout=base64.b64encode(b"y").decode())
        return done()


async def test_files_go_in_and_out_of_any_runtime(peer: Peer, tmp_path) -> None:
    shell = Shell()
    peer.answers["box_exec"] = shell.answer
    async with AsyncBox(peer.url) as box:
        assert await box.put(b"z" * 100_000, "a b/c") == 100_000
        assert len(shell.commands) == 3
        assert shell.commands[0].startswith("mkdir -p './a b' && printf %s ")
        assert shell.commands[-1].endswith(" './a b/c'")
        assert [" > " in one for one in shell.commands] == [True, False, False]
        assert all(len(one) < 100_000 for one in shell.commands)
        assert await box.get("/x", tmp_path / "out") == b"x" * 750_000 + b"y"
        assert (tmp_path / "out").stat().st_size == 750_001
        (tmp_path / "in").write_bytes(b"12")
        assert await box.put(tmp_path / "in", "/abs") == 2
        with pytest.raises(ConfigError):
            await box.put(tmp_path / "missing", "x")
        peer.answers["box_exec"] = done(exit_code=1, stderr="no room")
        with pytest.raises(SandboxError, match="no room"):
            await box.put(b"x", "x")
        peer.answers["box_exec"] = done(exit_code=2)
        with pytest.raises(SandboxError, match="exit code 2"):
            await box.get("x")


# ------------------------------------------------------------------ skills


@pytest.mark.parametrize("peer", ["tenant+skills"], indirect=True)
async def test_skills_where_there_are_some(peer: Peer) -> None:
    peer.answers["box_list_skills"] = {"skills": []}
    async with AsyncBox(peer.url) as box:
        assert await box.skill("list_skills") == {"skills": []}
        await box.skill("preview_skill_zip", zip=b"z" * 20_000, filename="a.zip")
        assert [one["chunk_size"] for one in peer.of("__file_chunk")] == [16_384, 3616]
        assert peer.of("box_preview_skill_zip")[0]["file_key"] == peer.of("__file_chunk")[0]["file_key"]
        with pytest.raises(NotSupported):
            await box.skill("nonsense")


async def test_no_skills_in_ours(box: AsyncBox) -> None:
    with pytest.raises(NotSupported):
        await box.skill("list_skills")


# ------------------------------------------------------------------ the blocking face


def test_the_blocking_face_is_the_same_client(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """With the embedded runtime that it starts by itself, and a real sandbox."""
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "none"))
    monkeypatch.delenv("BOTBOOK_BOX_URL", raising=False)
    with Box() as box:
        assert box.open() == "botbook"
        assert box.create("s").session_id == "s"
        assert box.exec("echo hi", session="s").stdout == "hi\n"
        assert box.put(b"data", "f", session="s") == 4
        assert box.get("f", session="s") == b"data"
        assert box.keeps_files()
        process = box.start("cat", session="s")
        process.write_line("x")
        assert process.readline(timeout=10) == "x"
        with pytest.raises(DeadlineExceeded):
            process.readline(timeout=0.05)
        assert process.info().status == "running"
        assert len(box.processes("s")) == 1
        process.stop()
        assert list(process) == []
        assert len(box.sessions()) == 1
        assert box.doctor()
        assert box.call("box_status")["active_sessions"] == 1
        with pytest.raises(NotSupported):
            box.skill("list_skills")
        box.delete("s")
        assert box.sessions() == []
    box.close()  # again


def test_a_sandbox_that_nobody_holds_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "none"))
    box = Box()
    box.exec("true")
    aio = box.aio
    del box
    gc.collect()
    assert aio._server is None
    box = Box()
    box.exec("true")
    aio = box.aio

    async def let_go() -> None:
        nonlocal box
        del box
        gc.collect()

    aio.home.run(let_go())
    until = time.monotonic() + 5
    while aio._server is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert aio._server is None


async def test_two_dials_at_once_are_one(peer: Peer) -> None:
    box = AsyncBox(peer.url)
    await asyncio.gather(*(box.call("box_status") for _ in range(5)))
    assert peer.connections == 1
    await box.close()


async def test_a_plain_client_of_our_runtime_reads_the_same(box: AsyncBox) -> None:
    async with aiohttp.ClientSession() as http:
        base = box.url.removesuffix("/rpc/ws").replace("ws", "http", 1)
        async with http.get(f"{base}/readyz") as answer:
            assert (await answer.json())["backend"] == {"name": "fake", "available": True}
