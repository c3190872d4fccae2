"""The Box runtime, message by message, over a backend made of nothing."""

from __future__ import annotations

import asyncio
import base64
import json

import aiohttp
import pytest

from botbook._clock import FakeClock
from botbook._errors import SandboxError
from botbook._local.boxes import Limits
from botbook._local.policy import MountRoots, Rules
from botbook.wire.box import Context
from tests.local.box_fakes import CONTEXT, TOKEN, FakeBackend, Served, served


@pytest.fixture
async def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def world(backend: FakeBackend):
    async with served(backend) as found:
        yield found


async def child_of(backend: FakeBackend, session: str, at: int = 0):
    for _ in range(200):
        if session in backend.cells and len(backend.cells[session].children) > at:
            return backend.cells[session].children[at]
        await asyncio.sleep(0.005)
    raise AssertionError("nothing was started")


# ------------------------------------------------------------------ envelope


async def test_what_is_no_request_is_dropped_and_the_connection_lives(world: Served) -> None:
    async with world.raw() as raw:
        for text in ("not json", "[]", '{"foo": 1}', '{"code": 0, "seq_id": 1}'):
            await raw.socket.send_str(text)
        assert await raw.data("__ping") == {}


async def test_odd_requests_are_answered_as_everywhere(world: Served) -> None:
    async with world.raw() as raw:
        await raw.socket.send_str('{"action": "box_health", "data": {}}')
        assert (await raw.reply(-1))["data"]["name"] == "fake"
        await raw.socket.send_str('{"action": "box_health", "seq_id": "abc", "data": {}, "bogus": 1}')
        assert (await raw.reply("abc"))["code"] == 0
        await raw.socket.send_str('{"action": "box_health", "seq_id": 77}')
        assert (await raw.reply(77))["message"] == "KeyError: 'data'"
        assert await raw.error("box_nope") == "ValueError: Action box_nope not found"
        assert (await raw.error("box_delete_session")) == "KeyError: 'session_id'"
        assert await raw.error("box_start_managed_process", {"session_id": "x"}) != ""
        await raw.socket.send_str('{"action": "box_health", "data": {}, "context": {}}')
        assert "ActionContext" in (await raw.reply(-1))["message"]


async def test_a_binary_frame_ends_the_connection(world: Served) -> None:
    async with world.raw() as raw:
        await raw.socket.send_bytes(b"x")
        message = await raw.socket.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1000)


async def test_a_fault_of_one_request_is_one_error(world: Served, backend: FakeBackend) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("inside")

    backend.open = broken
    async with world.raw() as raw:
        assert await raw.error("box_create_session", {"session_id": "s"}) == "RuntimeError: inside"
        assert await raw.data("__ping") == {}


async def test_a_full_connection_still_answers_ping(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        for at in range(128):
            await raw.send("box_exec", {"session_id": f"s{at % 60}", "cmd": "sleep"})
        await child_of(backend, "s59")
        assert "busy (max 128" in await raw.error("box_status")
        assert await raw.data("__ping") == {}


async def test_requests_cut_by_an_old_client_are_mended(world: Served, backend: FakeBackend) -> None:
    long = "x" * 150_000
    backend.answers[long] = (0, b"done", b"")
    text = json.dumps({"seq_id": 5, "action": "box_exec", "data": {"session_id": "s", "cmd": long}})
    async with world.raw() as raw:
        for at in range(0, len(text), 65_536):
            await raw.socket.send_str(text[at : at + 65_536])
        assert (await raw.reply(5))["data"]["stdout"] == "done"


# ------------------------------------------------------------------ sessions


async def test_a_session_is_found_again_and_cannot_change(world: Served) -> None:
    async with world.raw() as raw:
        first = await raw.data("box_create_session", {"session_id": "s", "memory_mb": 64})
        assert (first["session_id"], first["backend_name"], first["status"]) == ("s", "fake", "idle")
        assert first["created_at"].endswith("Z")
        again = await raw.data("box_create_session", {"session_id": "s", "memory_mb": 64, "cmd": "x"})
        assert again["backend_session_id"] == first["backend_session_id"]
        words = await raw.error("box_exec", {"session_id": "s", "cmd": "true"})
        assert words == "BoxSessionConflictError: Box session s already exists with memory_mb=64"
        assert (await raw.data("box_get_session", {"session_id": "s"}))["memory_mb"] == 64
        assert await raw.data("box_delete_session", {"session_id": "s"}) == {"deleted": "s"}
        words = await raw.error("box_get_session", {"session_id": "s"})
        assert words == "BoxSessionNotFoundError: session s not found"


async def test_tenants_do_not_see_each_other(world: Served) -> None:
    other = {**CONTEXT, "workspace_uuid": "v"}
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"}, context=CONTEXT)
        assert len((await raw.data("box_get_sessions", context=CONTEXT))["sessions"]) == 1
        assert (await raw.data("box_get_sessions", context=other))["sessions"] == []
        assert (await raw.data("box_get_sessions"))["sessions"] == []
        assert (await raw.data("box_status", context=CONTEXT))["active_sessions"] == 1


async def test_a_tenant_that_moved_leaves_its_sessions(world: Served) -> None:
    moved = {**CONTEXT, "placement_generation": 2}
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"}, context=CONTEXT)
        await raw.data("box_status", context=moved)
        assert len(world.runtime.boxes) == 0
        assert "Stale" in await raw.error("box_status", context=CONTEXT)


async def test_a_session_that_died_is_made_again(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        first = await raw.data("box_create_session", {"session_id": "s"})
        await backend.cells["s"].close()
        again = await raw.data("box_create_session", {"session_id": "s"})
        assert first["backend_session_id"] != again["backend_session_id"]


async def test_a_session_that_cannot_start_is_forgotten(world: Served, backend: FakeBackend) -> None:
    backend.broken = {"s"}
    async with world.raw() as raw:
        assert await raw.error("box_create_session", {"session_id": "s"}) == "BoxError: it broke"
        backend.broken = set()
        assert await raw.data("box_create_session", {"session_id": "s"})


async def test_without_a_backend_the_reason_is_told() -> None:
    async with served(FakeBackend(available=False)) as world, world.raw() as raw:
        health = await raw.data("box_health")
        assert (health["name"], health["available"]) == (None, False)
        words = await raw.error("box_exec", {"session_id": "s", "cmd": "true"})
        assert words == "BoxBackendUnavailableError: there is no kernel"
        async with world.http.get(world.base.replace("ws", "http", 1) + "/readyz") as answer:
            assert (answer.status, (await answer.json())["ready"]) == (503, False)
        async with world.http.get(world.base.replace("ws", "http", 1) + "/healthz") as answer:
            assert (await answer.json())["live"]


# ------------------------------------------------------------------ commands


async def test_a_command_gives_what_the_vendor_gives(world: Served) -> None:
    async with world.raw() as raw:
        data = await raw.data("box_exec", {"session_id": "s", "cmd": " echo "})
        assert set(data) == {
            "session_id",
            "backend_name",
            "status",
            "exit_code",
            "stdout",
            "stderr",
            "duration_ms",
        }
        assert (data["status"], data["exit_code"], data["stdout"], data["stderr"]) == (
            "completed",
            0,
            "out",
            "err",
        )
        whole = await raw.data("box_exec", {"session_id": "s", "cmd": "echo", "strip": False})
        assert whole["stdout"] == " out\n"
        assert await raw.error("box_exec", {"session_id": "s", "cmd": " "}) == (
            "BoxValidationError: cmd must not be empty"
        )


async def test_what_a_command_gets(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        text = base64.b64encode(b"input").decode()
        seq = await raw.send(
            "box_exec",
            {
                "session_id": "s",
                "cmd": "cat",
                "env": {"A": "x\ny"},
                "workdir": "/tmp/d",
                "stdin_base64": text,
            },
        )
        child = await child_of(backend, "s")
        assert child.command.argv == ("/bin/sh", "-lc", "cat")
        assert (child.command.env, child.command.cwd) == ({"A": "x\ny"}, "/tmp/d")
        await asyncio.sleep(0.01)
        assert (child.stdin.data, child.stdin.closed) == (b"input", True)
        child.end(3)
        assert (await raw.reply(seq))["data"]["exit_code"] == 3
        for wrong in ("*", 7):
            words = await raw.error("box_exec", {"session_id": "s", "cmd": "cat", "stdin_base64": wrong})
            assert words == "BoxValidationError: stdin_base64 is not base64"


async def test_output_streams_to_those_who_ask(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        seq = await raw.send("box_exec", {"session_id": "s", "cmd": "run", "stream": True})
        child = await child_of(backend, "s")
        child.stdout.feed_data("é".encode()[:1])
        await asyncio.sleep(0.02)
        child.stdout.feed_data("é".encode()[1:] + b"\n")
        await asyncio.sleep(0.02)
        child.end(0, err=b"oh")
        assert (await raw.reply(seq))["data"]["stdout"] == "é"
        texts = [(one["output"]["stream"], one["output"]["text"]) for one in raw.others]
        assert texts == [("stdout", "é\n"), ("stderr", "oh")]


async def test_time_is_up_but_the_session_stays(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        seq = await raw.send("box_exec", {"session_id": "s", "cmd": "run", "timeout_sec": 1})
        child = await child_of(backend, "s")
        child.stdout.feed_data(b"so far")
        data = (await raw.reply(seq))["data"]
        assert child.killed
        assert child.closed
        assert (data["status"], data["exit_code"], data["stdout"]) == ("timed_out", None, "so far")
        assert data["stderr"] == "Command timed out after 1 seconds."
        assert await raw.data("box_get_session", {"session_id": "s"})


async def test_one_command_at_a_time_in_a_session(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        first = await raw.send("box_exec", {"session_id": "s", "cmd": "one"})
        second = await raw.send("box_exec", {"session_id": "s", "cmd": "two"})
        child = await child_of(backend, "s")
        await asyncio.sleep(0.02)
        assert len(backend.cells["s"].children) == 1
        assert (await raw.data("box_get_session", {"session_id": "s"}))["status"] == "running"
        child.end()
        (await child_of(backend, "s", 1)).end()
        await raw.reply(first)
        await raw.reply(second)


async def test_a_cancelled_request_is_answered_and_ended(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        seq = await raw.send("box_exec", {"session_id": "s", "cmd": "run"})
        child = await child_of(backend, "s")
        assert await raw.data("__cancel_action", {"seq_id": seq}) == {"cancelled": True}
        assert (await raw.reply(seq))["message"] == "BoxError: cancelled"
        assert child.killed
        assert await raw.data("__cancel_action", {"seq_id": seq}) == {"cancelled": False}


async def test_a_client_that_leaves_takes_its_command_along(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        await raw.send("box_exec", {"session_id": "s", "cmd": "run"})
        child = await child_of(backend, "s")
    for _ in range(100):
        if child.killed:
            break
        await asyncio.sleep(0.01)
    assert child.killed
    assert len(world.runtime.boxes) == 1


async def test_a_session_deleted_under_a_command_ends_it(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        seq = await raw.send("box_exec", {"session_id": "s", "cmd": "run"})
        await child_of(backend, "s")
        await raw.data("box_delete_session", {"session_id": "s"})
        assert (await raw.reply(seq))["data"]["exit_code"] == 137


@pytest.mark.parametrize(("modern", "most"), [(False, 1_000_000), (True, 15 * 1024 * 1024)])
async def test_a_reply_fits_its_client(world: Served, backend: FakeBackend, modern: bool, most: int) -> None:
    backend.answers["big"] = (0, b"\1" * 3_000_000, b"\2" * 900_000)
    headers = {"X-LangBot-Instance-Id": "i"} if modern else {}
    async with world.raw(**headers) as raw:
        reply = await raw.call("box_exec", {"session_id": "s", "cmd": "big", "output_bytes": 8 * 1024 * 1024})
        assert len(json.dumps(reply)) <= most
        assert reply["data"]["exit_code"] == 0
        assert "output cut" in reply["data"]["stdout"]
        plain = await raw.data("box_exec", {"session_id": "s", "cmd": "true"})
        assert plain["stdout"] == ""


@pytest.mark.parametrize("wrong", [0, True, "x", 10**9])
async def test_an_output_limit_is_checked(world: Served, wrong: object) -> None:
    async with world.raw() as raw:
        assert "output_bytes" in await raw.error(
            "box_exec", {"session_id": "s", "cmd": "true", "output_bytes": wrong}
        )


async def test_endless_output_is_bounded(world: Served, backend: FakeBackend) -> None:
    backend.answers["yes"] = (0, b"y" * 3_000_000, b"")
    async with world.raw(**{"X-LangBot-Instance-Id": "i"}) as raw:
        data = await raw.data("box_exec", {"session_id": "s", "cmd": "yes"})
        assert "[raw output clipped at 1048576 bytes, 1951424 bytes discarded]" in data["stdout"]


async def test_a_command_that_cannot_be_enclosed(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        seq = await raw.send("box_exec", {"session_id": "s", "cmd": "run"})
        (await child_of(backend, "s")).fail(SandboxError("no seccomp"))
        assert (await raw.reply(seq))["message"] == "BoxError: no seccomp"


async def test_a_command_killed_for_memory_says_so(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        seq = await raw.send("box_exec", {"session_id": "s", "cmd": "run"})
        child = await child_of(backend, "s")
        child.out_of_memory = True
        child.end(137, err=b"partial")
        assert (await raw.reply(seq))["data"]["stderr"] == "partial\nKilled: out of memory."


async def test_every_command_leaves_a_row() -> None:
    rows: list[dict] = []
    async with served(FakeBackend(), audit=rows.append) as world, world.raw() as raw:
        await raw.data("box_exec", {"session_id": "s", "cmd": "echo"})
    assert [{**row, "duration_ms": 0} for row in rows] == [
        {
            "caller": "owner",
            "session": "s",
            "cmd": "echo",
            "status": "completed",
            "exit_code": 0,
            "duration_ms": 0,
            "stdout_bytes": 5,
            "stderr_bytes": 4,
            "backend": "fake",
        }
    ]


# ------------------------------------------------------------------ managed processes and relay


async def test_a_managed_process_and_its_relay(world: Served, backend: FakeBackend) -> None:
    spec = {"process_id": "p", "command": "cat", "args": ["-u"], "env": {"K": "v"}}
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        info = await raw.data("box_start_managed_process", {"session_id": "s", "spec": spec})
        assert (info["status"], info["env_keys"], info["attached"]) == ("running", ["K"], False)
        child = await child_of(backend, "s")
        assert child.command.argv == ("cat", "-u")
        url = f"{world.base}/v1/sessions/s/managed-process/p/ws"
        headers = {"X-LangBot-Box-Control-Token": TOKEN}
        child.stdout.feed_data(b"before\npart")
        async with world.http.ws_connect(url, headers=headers) as relay:
            assert await relay.receive_str(timeout=5) == "before\n"
            await relay.send_str("in")
            await relay.send_bytes(b"binary is ignored")
            child.stdout.feed_data(b"ial\n\n\xff" + b"x" * 2_000_000 + b"\n")
            assert await relay.receive_str(timeout=5) == "partial\n"
            assert await relay.receive_str(timeout=5) == "\n"
            long = [await relay.receive_str(timeout=5) for _ in range(2)]
            assert len("".join(long)) == 2_000_002
            assert child.stdin.data == b"in\n"
            info = await raw.data("box_get_managed_process", {"session_id": "s", "process_id": "p"})
            assert info["attached"]
            child.stdout.feed_data(b"last")
            child.end(0, err=b"why")
            assert await relay.receive_str(timeout=5) == "last"
            closing = await relay.receive(timeout=5)
            assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 1000)
        info = await raw.data("box_get_managed_process", {"session_id": "s", "process_id": "p"})
        assert (info["status"], info["exit_code"], info["stderr_preview"]) == ("exited", 0, "why")
        both = await raw.data("box_get_session", {"session_id": "s"})
        assert list(both["managed_processes"]) == ["p"]
        assert "managed_process" not in both
        assert await raw.data("box_stop_managed_process", {"session_id": "s", "process_id": "p"}) == {
            "stopped": "p"
        }
        words = await raw.error("box_get_managed_process", {"session_id": "s", "process_id": "p"})
        assert words.startswith("BoxManagedProcessNotFoundError: session s has no managed process")


async def test_refusals_of_the_relay(world: Served, backend: FakeBackend) -> None:
    headers = {"X-LangBot-Box-Control-Token": TOKEN}
    base = world.base.replace("ws", "http", 1)
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        await raw.data("box_start_managed_process", {"session_id": "s", "spec": {"command": "x"}})
        (await child_of(backend, "s")).end(1)
        await asyncio.sleep(0.01)
        for path, code in (
            ("nope/managed-process/ws", "BoxSessionNotFoundError"),
            ("s/managed-process/q/ws", "BoxManagedProcessNotFoundError"),
            ("s/managed-process/ws", "BoxManagedProcessConflictError"),
        ):
            async with world.http.get(f"{base}/v1/sessions/{path}", headers=headers) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"]["code"] == code
        both = await raw.data("box_get_session", {"session_id": "s"})
        assert both["managed_process"]["exit_code"] == 1


async def test_a_relay_by_the_name_that_tenant_clients_make(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "a b"}, context=CONTEXT)
        await raw.data(
            "box_start_managed_process", {"session_id": "a b", "spec": {"command": "x"}}, context=CONTEXT
        )
        child = await child_of(backend, "a b")
        child.stdout.feed_data(b"hi\n")
        identity = {"X-LangBot-Instance-Id": "i", "X-LangBot-Workspace-Id": "w"}
        physical = Context(instance="i", workspace="w").physical("a b")
        for name in (physical, "a%20b"):
            url = f"{world.base}/v1/sessions/{name}/managed-process/ws"
            headers = {"X-LangBot-Box-Control-Token": TOKEN, **identity}
            async with world.http.ws_connect(url, headers=headers) as relay:
                child.stdout.feed_data(b"hi\n")
                assert await relay.receive_str(timeout=5) == "hi\n"


async def test_a_second_client_of_a_relay_waits(world: Served, backend: FakeBackend) -> None:
    url = f"{world.base}/v1/sessions/s/managed-process/ws"
    headers = {"X-LangBot-Box-Control-Token": TOKEN}
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        await raw.data("box_start_managed_process", {"session_id": "s", "spec": {"command": "x"}})
        child = await child_of(backend, "s")
        first = await world.http.ws_connect(url, headers=headers)
        async with world.http.ws_connect(url, headers=headers) as second:
            child.stdout.feed_data(b"one\n")
            assert await first.receive_str(timeout=5) == "one\n"
            await first.close()
            child.stdout.feed_data(b"two\n")
            assert await second.receive_str(timeout=5) == "two\n"


async def test_a_process_of_the_same_name_is_replaced(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        for _ in range(2):
            await raw.data("box_start_managed_process", {"session_id": "s", "spec": {"command": "x"}})
            if len(backend.cells["s"].children) == 1:
                backend.cells["s"].children[0].terminate = backend.cells["s"].children[0].end
        first, second = backend.cells["s"].children
        assert first.closed
        assert not second.closed
        assert first.stdin.closed


async def test_a_process_that_cannot_be_enclosed_is_listed_as_such(
    world: Served, backend: FakeBackend
) -> None:
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        await raw.data("box_start_managed_process", {"session_id": "s", "spec": {"command": "x"}})
        (await child_of(backend, "s")).fail(SandboxError("no seccomp"))
        await asyncio.sleep(0.01)
        info = await raw.data("box_get_managed_process", {"session_id": "s"})
        assert (info["exit_code"], info["stderr_preview"]) == (126, "no seccomp")


async def test_too_many_processes() -> None:
    async with served(FakeBackend(), limits=Limits(max_managed_processes=1)) as world, world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        await raw.data("box_start_managed_process", {"session_id": "s", "spec": {"command": "x"}})
        words = await raw.error(
            "box_start_managed_process", {"session_id": "s", "spec": {"command": "x", "process_id": "q"}}
        )
        assert words == "BoxCapacityExceededError: Box managed process capacity reached (1)"


async def test_ended_processes_are_forgotten_after_a_while(backend: FakeBackend) -> None:
    clock = FakeClock()
    async with served(backend, clock=clock) as world, world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s", "persistent": True})
        await raw.data("box_start_managed_process", {"session_id": "s", "spec": {"command": "x"}})
        (await child_of(backend, "s")).end()
        await asyncio.sleep(0.01)
        await clock.advance(200)
        assert (await raw.data("box_get_managed_process", {"session_id": "s"}))["status"] == "exited"
        await clock.advance(200)
        assert "NotFound" in await raw.error("box_get_managed_process", {"session_id": "s"})


# ------------------------------------------------------------------ configuration and end


async def test_init_narrows_and_never_widens(world: Served) -> None:
    async with world.raw() as raw:
        for config, words in (
            ({"backend": "host"}, "BoxValidationError"),
            ({"limits": {"max_sessions": "x"}}, "ValueError: box.limits.max_sessions must be an integer"),
            (
                {"limits": {"max_sessions": -1}},
                "ValueError: box.limits.max_sessions must be between",
            ),
        ):
            assert (await raw.error("box_init", config)).startswith(words)
        assert await raw.data("box_init", {"backend": "docker", "limits": {"max_sessions": 4000}}) == {
            "initialized": True
        }
        assert world.runtime.boxes.limits.max_sessions == 64
        await raw.data("box_init", {"limits": {"max_sessions": 0}})
        assert "capacity reached (0)" in await raw.error("box_create_session", {"session_id": "s"})


async def test_shutdown_ends_the_sessions_and_not_the_runtime(world: Served, backend: FakeBackend) -> None:
    async with world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        assert await raw.data("box_shutdown") == {}
        assert backend.cells["s"].ended.is_set()
        assert await raw.data("box_create_session", {"session_id": "s"})


async def test_the_end_says_goodbye(backend: FakeBackend) -> None:
    async with served(backend) as world, world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        closing = asyncio.ensure_future(world.server.close())
        message = await raw.socket.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        await raw.socket.close()
        await closing
    assert backend.closed
    assert backend.cells["s"].ended.is_set()


async def test_doctor_tells_what_holds(world: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botbook._local.backends.BACKENDS", {"other": lambda: FakeBackend(available=False)})
    async with world.raw() as raw:
        (report,) = (await raw.data("box_doctor"))["reports"]
        assert report["backend"] == "fake"
        assert {"name": "memory", "on": True, "how": "said so"} in report["protections"]
        assert len((await raw.data("box_doctor", {"all": True}))["reports"]) == 1  # itself it knows


async def test_a_session_ended_while_it_starts_leaves_nothing(world: Served, backend: FakeBackend) -> None:
    backend.slow["s"] = asyncio.Event()
    async with world.raw() as raw:
        await raw.send("box_create_session", {"session_id": "s"})
        await raw.data("__ping")
        deleting = await raw.send("box_delete_session", {"session_id": "s"})
        await raw.data("__ping")
        backend.slow["s"].set()
        await raw.reply(deleting)
        assert backend.cells["s"].ended.is_set()


async def test_mounts_go_to_the_backend_by_their_real_paths(backend: FakeBackend, tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    async with served(backend, rules=Rules(mounts=MountRoots([str(tmp_path)]))) as world, world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s", "host_path": str(tmp_path / "link")})
        mount = backend.cells["s"].plan.mounts[0]
        assert (mount.host_path, mount.mount_path, mount.mode) == (str(tmp_path / "real"), "/workspace", "rw")
