"""One test for each weakness that the original's own review lists (langbot_box.txt, S1 to S8)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import aiohttp
import pytest

from botbook._clock import FakeClock
from botbook._errors import SandboxError
from botbook._local import box_server
from botbook._local.boxes import Limits
from botbook._local.policy import MountRoots, Policy, Rules
from botbook.sandbox import AsyncBox
from tests.local.box_fakes import TOKEN, FakeBackend, Served, served


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
async def real(root: Path):
    """The runtime as it is shipped, with a real sandbox."""
    server, endpoint = await box_server.start(mount_roots=[str(root)])
    async with AsyncBox(endpoint.url, endpoint.token) as box:
        box.root = root
        yield box
    await server.close()


async def status(world: Served, path: str, headers: dict[str, str]) -> int:
    url = world.base.replace("ws", "http", 1) + path
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with world.http.get(url, headers={**upgrade, **headers}) as answer:
        return answer.status


async def test_s1_both_sockets_want_the_token() -> None:
    header = "X-LangBot-Box-Control-Token"
    async with served(FakeBackend()) as world:
        assert "127.0.0.1" in world.url
        for path in ("/rpc/ws", "/v1/sessions/s/managed-process/ws", "/v1/sessions/s/managed-process/p/ws"):
            for headers in (
                {},
                {header: ""},
                {header: TOKEN + "x"},
                {"Authorization": "Bearer x"},
                {header: TOKEN, "Origin": "http://evil.example"},
            ):
                assert await status(world, path, headers) == 401
            assert await status(world, f"/t/wrong{path}", {}) == 401
        relay = "/v1/sessions/s/managed-process/ws"
        for good in ({header: TOKEN}, {"Authorization": f"Bearer {TOKEN}"}):
            assert await status(world, relay, good) == 400  # known, but there is no such session
        assert await status(world, f"/t/{TOKEN}{relay}", {}) == 400
        async with world.http.ws_connect(f"{world.base}/t/{TOKEN}/rpc/ws") as socket:
            await socket.send_str('{"action": "__ping", "data": {}}')
            assert '"code": 0' in await socket.receive_str(timeout=5)
    server, endpoint = await box_server.start()
    await server.close()
    assert len(endpoint.token) >= 32
    assert endpoint.token not in repr(endpoint)


async def test_s2_each_caller_has_its_own_rules() -> None:
    policy = Policy(
        {
            TOKEN: Rules(name="owner"),
            "guest-guest-guest": Rules(
                name="guest",
                actions=frozenset({"box_exec", "box_get_sessions"}),
                network=False,
                elevated=False,
                max_sessions=1,
            ),
        }
    )
    backend = FakeBackend()
    async with (
        served(backend, policy=policy) as world,
        world.raw() as owner,
        world.raw("guest-guest-guest") as guest,
    ):
        await owner.data("box_create_session", {"session_id": "mine"})
        assert (await guest.data("box_get_sessions"))["sessions"] == []
        assert await guest.data("box_exec", {"session_id": "g", "cmd": "true"})
        for action, data in (
            ("box_init", {}),
            ("box_shutdown", {}),
            ("box_create_session", {"session_id": "x"}),
            ("box_delete_session", {"session_id": "mine"}),
        ):
            assert (await guest.error(action, data)).startswith("PermissionError: guest may not")
        words = await guest.error("box_exec", {"session_id": "n", "cmd": "true", "network": "on"})
        assert words == "BoxValidationError: guest may not switch the network on"
        words = await guest.error("box_exec", {"session_id": "second", "cmd": "true"})
        assert words == "BoxCapacityExceededError: Box session capacity reached (1)"
        assert set(backend.cells) == {"mine", "g"}


async def test_s3_sessions_are_counted_and_reaped_without_being_asked() -> None:
    backend, clock = FakeBackend(), FakeClock()
    async with served(backend, clock=clock, limits=Limits(max_sessions=3)) as world, world.raw() as raw:
        for name in ("idle", "kept", "busy"):
            await raw.data("box_create_session", {"session_id": name, "persistent": name == "kept"})
        await raw.data("box_start_managed_process", {"session_id": "busy", "spec": {"command": "x"}})
        asked = [await raw.send("box_create_session", {"session_id": f"more{at}"}) for at in range(200)]
        replies = [await raw.reply(seq) for seq in asked]
        assert all(one["code"] == 1 for one in replies)
        assert any("BoxCapacityExceededError" in one["message"] for one in replies)
        assert len(backend.cells) == 3
        await clock.advance(290)
        assert len(world.runtime.boxes) == 3
        await clock.advance(60)  # nobody asks for anything
        await asyncio.sleep(0.01)
        assert backend.cells["idle"].ended.is_set()
        assert [one.key.session for one in world.runtime.boxes.of_caller("owner")] == ["kept", "busy"]


async def test_s4_a_quota_holds_while_a_command_runs(real: AsyncBox) -> None:
    result = await real.exec(
        "for i in 1 2 3 4 5 6; do head -c 4M /dev/zero > f$i || break; done; du -sm .",
        session="q",
        workspace_quota_mb=8,
    )
    assert int(result.stdout.split()[-2]) <= 9
    real.root.chmod(0o777)
    result = await real.exec(
        "i=0; while :; do i=$((i+1)); head -c 4M /dev/zero > f$i; sleep 0.05; done",
        session="m",
        workspace_quota_mb=8,
        host_path=str(real.root),
        timeout=15,
    )
    assert result.exit_code == 137
    assert "Killed: more than 8 MiB" in result.stderr
    assert sum(one.stat().st_size for one in real.root.iterdir()) < 64 << 20


async def test_s5_mounts_only_from_the_allowed_roots(real: AsyncBox, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (real.root / "link").symlink_to(outside)
    for path in (
        "/",
        "/etc",
        str(Path.home()),
        str(outside),
        str(real.root / "link"),
        f"{real.root}/../outside",
    ):
        with pytest.raises(SandboxError) as caught:
            await real.exec("true", session="a", host_path=path)
        assert caught.value.code == "BoxValidationError"
        extra = [{"host_path": path, "mount_path": "/extra"}]
        with pytest.raises(SandboxError):
            await real.exec("true", session="b", extra_mounts=extra)
    (real.root / "data").mkdir()
    (real.root / "data" / "file").write_text("inside")
    result = await real.exec("cat file; echo new > made", session="c", host_path=str(real.root / "data"))
    assert result.stdout == "inside"
    assert (real.root / "data" / "made").read_text() == "new\n"
    assert (real.root / "data" / "made").stat().st_uid == os.geteuid()
    result = await real.exec("touch x", session="d", host_path=str(real.root / "data"), host_path_mode="ro")
    assert "Read-only" in result.stderr


async def test_s6_nothing_is_left_to_gain(real: AsyncBox) -> None:
    script = "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; id -u; cat /proc/self/uid_map"
    first = (await real.exec(script, session="one")).stdout.split("\n")
    second = (await real.exec(script, session="two")).stdout.split("\n")
    values = dict(line.split(":") for line in first if ":" in line)
    assert {
        name: int(values[name].strip(), 16) for name in values if name.startswith("Cap")
    } == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0)
    assert (values["NoNewPrivs"].strip(), values["Seccomp"].strip()) == ("1", "2")
    assert "1000" in first
    outer = [int(lines[-1 if lines[-1] else -2].split()[1]) for lines in (first, second)]
    if os.geteuid() == 0:
        assert 0 not in outer
        assert outer[0] != outer[1]
    else:
        assert outer == [os.geteuid()] * 2


async def test_s7_a_slow_start_holds_up_nobody() -> None:
    backend = FakeBackend()
    backend.slow["slow"] = asyncio.Event()
    async with served(backend) as world, world.raw() as raw:
        slow = await raw.send("box_exec", {"session_id": "slow", "cmd": "true"})
        assert await raw.data("box_exec", {"session_id": "other", "cmd": "true"})
        assert await raw.data("box_delete_session", {"session_id": "other"})
        assert len((await raw.data("box_get_sessions"))["sessions"]) == 1
        backend.slow["slow"].set()
        assert (await raw.reply(slow))["data"]["exit_code"] == 0


async def test_s8_names_do_not_clash() -> None:
    backend = FakeBackend()
    async with served(backend) as world, world.raw() as raw:
        for name in ("a/b", "a b", "a-b", "A-b"):
            info = await raw.data("box_create_session", {"session_id": name})
            assert info["session_id"] == name
        assert len({cell.id for cell in backend.cells.values()}) == 4


async def test_s8_nothing_starts_before_it_is_configured() -> None:
    backend = FakeBackend()
    async with served(backend, configured=False) as world, world.raw() as raw:
        assert await raw.data("__ping") == {}
        assert (await raw.data("box_health"))["name"] == "fake"
        words = await raw.error("box_exec", {"session_id": "s", "cmd": "true"})
        assert words == "BoxReadinessError: the runtime waits for box_init"
        await raw.data("box_init", {})
        assert await raw.data("box_exec", {"session_id": "s", "cmd": "true"})


async def test_s8_a_mount_that_appears_later_is_shown(real: AsyncBox) -> None:
    (real.root / "skill").mkdir(mode=0o755)
    (real.root / "skill" / "file").write_text("later")
    await real.exec("echo mine > kept", session="s")
    extra = [{"host_path": str(real.root / "skill"), "mount_path": "/workspace/.skills/one", "mode": "ro"}]
    result = await real.exec(
        "cat kept .skills/one/file; touch .skills/one/x", session="s", extra_mounts=extra
    )
    assert result.stdout.split() == ["mine", "later"]
    assert "Read-only" in result.stderr
    other = [{**extra[0], "mode": "rw"}]
    with pytest.raises(SandboxError) as caught:
        await real.exec("true", session="s", extra_mounts=other)
    assert caught.value.code == "BoxSessionConflictError"
    missing = [{**extra[0], "mount_path": "/etc/other"}]
    with pytest.raises(SandboxError):
        await real.exec("true", session="s", extra_mounts=missing)
    assert (await real.exec("cat kept", session="s", extra_mounts=extra)).stdout == "mine\n"


async def test_s8_a_mount_that_fails_is_not_remembered() -> None:
    backend = FakeBackend()
    rules = Rules(mounts=MountRoots([str(Path(__file__).parent)]))
    extra = [{"host_path": str(Path(__file__).parent), "mount_path": "/more"}]
    async with served(backend, rules=rules) as world, world.raw() as raw:
        await raw.data("box_create_session", {"session_id": "s"})
        backend.no_mounts = True
        assert "no" in await raw.error("box_create_session", {"session_id": "s", "extra_mounts": extra})
        backend.no_mounts = False
        assert await raw.data("box_create_session", {"session_id": "s", "extra_mounts": extra})
        assert len(backend.cells["s"].mounted) == 1


async def test_a_runtime_is_not_reached_from_a_page() -> None:
    async with served(FakeBackend()) as world:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await world.http.ws_connect(f"{world.url}?token={TOKEN}", origin="http://evil.example")
        async with world.http.ws_connect(f"{world.url}?token={TOKEN}") as socket:
            await socket.close()
