"""What the escape attempts do not touch: choosing, ending, faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from botbook._errors import SandboxError
from botbook._local import backends, box_server
from botbook._local.backends import directories, layout, native, native_cell
from botbook._local.backends.base import PROTECTIONS, CellPlan, Command
from botbook._local.backends.native import NativeBackend
from botbook._local.backends.unsafe import UnsafeBackend
from botbook._local.execution import collect, tree_bytes
from botbook.wire.box import Mount, Spec
from tests.local.box_fakes import FakeBackend

SOURCES = str(Path(__file__).parents[3] / "src")


def there(path: str) -> bool:
    return os.path.exists(path)


def plan(name: str = "t", **spec: object) -> CellPlan:
    return CellPlan(name=name, spec=Spec(session_id=name, **spec))


async def run(cell, script: str, *, timeout: float = 10.0, **command):
    child = await cell.run(Command(argv=("/bin/sh", "-lc", script), **command))
    return await collect(child, timeout=timeout, limit=1_000_000)


def working() -> list[str]:
    """Those whose programs are there; whether they work is for the tests to say."""
    return ["native", *(["bubblewrap"] if shutil.which("bwrap") else [])]


@pytest.fixture
async def backend():
    made = NativeBackend()
    yield made
    await made.close()


@pytest.fixture(params=working())
async def each(request):
    made = backends.BACKENDS[request.param]()
    yield made
    await made.close()


# ------------------------------------------------------------------ choosing


async def test_the_first_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"broken": lambda: FakeBackend(available=False), "fake": FakeBackend}
    monkeypatch.setattr(backends, "BACKENDS", table)
    assert (await backends.choose()).name == "fake"
    with pytest.raises(SandboxError, match="broken: there is no kernel") as caught:
        await backends.choose("broken")
    assert caught.value.code == "BoxBackendUnavailableError"
    with pytest.raises(SandboxError, match="no sandbox backend"):
        await backends.choose("nonsense")
    assert [one.available for one in await backends.doctor()] == [False, True]


async def test_no_protection_only_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", {"broken": lambda: FakeBackend(available=False)})
    with pytest.raises(SandboxError, match="no sandbox works on this machine"):
        await box_server.start()
    server, _ = await box_server.start(unsafe=True)
    report = await server.runtime.report()
    assert report.backend == "unsafe"
    assert not any(one.on for one in report.protections)
    await server.close()


async def test_a_taken_port_is_told() -> None:
    server, endpoint = await box_server.start()
    port = int(endpoint.url.split(":")[2].split("/")[0])
    with pytest.raises(SandboxError, match="cannot listen"):
        await box_server.start(port=port)
    await server.close()


async def test_the_unsafe_one_runs_ends_and_forgets() -> None:
    made = UnsafeBackend()
    cell = await made.open(plan())
    outcome = await run(cell, "pwd; echo $A; cat", env={"A": "b"}, stdin=True)
    assert outcome.exit_code == 0
    place = outcome.stdout.text(strip=True).split()[0]
    outcome = await run(cell, "sleep 60", timeout=0.1)
    assert outcome.exit_code is None
    child = await cell.run(Command(argv=("sleep", "60")))
    child.terminate()
    assert await child.wait() == 143
    child.close()
    with pytest.raises(SandboxError, match="no mounts"):
        await cell.mount(Mount(host_path="/x", mount_path="/x"))
    with pytest.raises(SandboxError, match="no-such-program"):
        await cell.run(Command(argv=("no-such-program",)))
    mounts = (Mount(host_path="/", mount_path="/x"),)
    with pytest.raises(SandboxError, match="no mounts"):
        await made.open(CellPlan(name="m", spec=Spec(session_id="m"), mounts=mounts))
    await made.close()
    assert not there(place)
    with pytest.raises(SandboxError, match="has ended"):
        await cell.run(Command(argv=("true",)))


# ------------------------------------------------------------------ the native one


async def test_a_session_keeps_its_files_between_commands(each) -> None:
    cell = await each.open(plan())
    await run(cell, "echo kept > f; echo tmp > /tmp/f")
    assert (await run(cell, "cat f /tmp/f")).stdout.data == b"kept\ntmp\n"
    other = await each.open(plan("other"))
    assert (await run(other, "cat f /tmp/f")).exit_code == 1
    await cell.close()
    await cell.close()
    with pytest.raises(SandboxError, match="has ended"):
        await cell.run(Command(argv=("true",)))


async def test_exit_codes_are_the_shells(each) -> None:
    cell = await each.open(plan())
    assert (await run(cell, "exit 3")).exit_code == 3
    assert (await run(cell, "kill -9 $$")).exit_code == 137
    for program, code in (("no-such-program", 127), ("/etc/passwd", 126)):
        child = await cell.run(Command(argv=(program,)))
        outcome = await collect(child, timeout=5, limit=1000)
        assert outcome.exit_code == code
        assert program.encode() in outcome.stderr.data
    child = await cell.run(Command(argv=("pwd",), cwd="/usr/new"))
    outcome = await collect(child, timeout=5, limit=1000)
    assert outcome.exit_code in (2, 127)
    assert b"Read-only" in outcome.stderr.data


async def test_a_command_longer_than_an_argument(each) -> None:
    cell = await each.open(plan())
    outcome = await run(cell, ": " + "x" * 400_000 + "\necho $0 done")
    assert outcome.stdout.data.endswith(b"done\n")


async def test_odd_bytes_and_variables(each) -> None:
    cell = await each.open(plan())
    outcome = await run(cell, "printf '\\377\\376'; printf %s \"$A\"", env={"A": "x\ny ü"})
    assert outcome.stdout.text(strip=False) == "\ufffd\ufffdx\ny ü"


async def test_what_it_leaves_in_the_background_lives_until_the_session_ends(backend: NativeBackend) -> None:
    cell = await backend.open(plan())
    outcome = await run(cell, "(while :; do date +%N > beat; sleep 0.02; done) & echo started")
    assert outcome.stdout.data == b"started\n"
    first = (await run(cell, "cat beat; sleep 0.1")).stdout.data
    assert (await run(cell, "cat beat")).stdout.data != first


async def test_a_program_may_be_asked_to_end(each) -> None:
    cell = await each.open(plan())
    script = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.02; done"
    child = await cell.run(Command(argv=("/bin/sh", "-c", script)))
    assert await child.stdout.readline() == b"up\n"
    child.terminate()
    assert await asyncio.wait_for(child.wait(), 5) == 7
    assert await child.stdout.read() == b"bye\n"
    child.close()


async def test_nobody_is_left_unburied(each) -> None:
    cell = await each.open(plan())
    script = "for i in 1 2 3 4 5 6; do (sleep 0.01 & exec true) ; done; sleep 0.2; cat /proc/[0-9]*/stat"
    outcome = await run(cell, script)
    assert outcome.stdout.data
    assert not [line for line in outcome.stdout.data.split(b"\n") if b") Z " in line]


async def test_endless_output_ends_with_its_time(each) -> None:
    cell = await each.open(plan())
    outcome = await run(cell, "yes", timeout=0.5)
    assert outcome.exit_code is None
    assert len(outcome.stdout.data) == 1_000_000
    assert outcome.stdout.total > 2_000_000


async def test_a_closed_input_is_an_end_of_file(each) -> None:
    cell = await each.open(plan())
    assert (await run(cell, "cat; read x; echo $?")).stdout.data == b"1\n"


async def test_input_reaches_it(each) -> None:
    cell = await each.open(plan())
    child = await cell.run(Command(argv=("wc", "-c"), stdin=True))
    outcome = await collect(child, timeout=10, limit=100, stdin=b"x" * 3_000_000)
    assert outcome.stdout.data == b"3000000\n"
    child = await cell.run(Command(argv=("true",), stdin=True))
    assert (await collect(child, timeout=10, limit=100, stdin=b"x" * 3_000_000)).exit_code == 0


async def test_many_sessions_at_once(each) -> None:
    async def one(at: int) -> bytes:
        cell = await each.open(plan(f"s{at}"))
        outcome = await run(cell, f"echo {at}", timeout=30)
        await cell.close()
        return bytes(outcome.stdout.data)

    assert await asyncio.gather(*map(one, range(20))) == [f"{at}\n".encode() for at in range(20)]


def test_what_a_killed_runtime_left_is_removed(tmp_path: Path) -> None:
    for name in ("botbook-bwrap-999999999-x", f"botbook-bwrap-{os.getpid()}-x", "botbook-bwrap-x", "other"):
        (tmp_path / name).mkdir()
    directories.sweep(str(tmp_path), "botbook-bwrap-")
    left = sorted(one.name for one in tmp_path.iterdir())
    assert left == [f"botbook-bwrap-{os.getpid()}-x", "botbook-bwrap-x", "other"]


async def test_it_says_what_it_holds(each) -> None:
    report = await each.probe()
    assert report.available, report.reason
    assert [one.name for one in report.protections] == list(PROTECTIONS)
    assert all(one.how for one in report.protections)


async def test_a_mount_appears_later(each, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("later")
    for above in (place, *list(place.parents)[:3]):
        with contextlib.suppress(PermissionError):
            above.chmod(0o755)
    cell = await each.open(plan())
    await cell.mount(Mount(host_path=str(place), mount_path="/more", mode="ro"))
    outcome = await run(cell, "cat /more/file; touch /more/x")
    assert (outcome.stdout.data, outcome.exit_code) == (b"later", 1)


async def test_a_mount_that_cannot_be_shown(backend: NativeBackend, tmp_path: Path) -> None:
    missing = Mount(host_path=str(tmp_path / "missing"), mount_path="/workspace")
    with pytest.raises(SandboxError, match="missing"):
        await backend.open(CellPlan(name="m", spec=Spec(session_id="m"), mounts=(missing,)))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    cell = await backend.open(plan())
    with pytest.raises(SandboxError):  # put there after it was checked
        await cell.mount(Mount(host_path=str(tmp_path / "link"), mount_path="/workspace/x"))
    assert (await run(cell, "echo still here")).exit_code == 0


async def test_the_network_can_be_switched_on(each) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    script = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 5); print(1)'"
    cell = await each.open(plan(network="on"))
    assert (await run(cell, script)).stdout.data == b"1\n"
    server.close()


async def test_a_session_that_is_full_says_so_and_harms_no_other(backend: NativeBackend) -> None:
    cell = await backend.open(plan(pids_limit=12))
    for _ in range(3):
        with contextlib.suppress(SandboxError):
            await run(cell, "for n in $(seq 40); do sleep 50 & done")
    with pytest.raises(SandboxError, match="no room for another process"):
        await run(cell, "true")
    assert (await run(await backend.open(plan("other")), "echo up")).stdout.data == b"up\n"
    await cell.close()


async def test_a_killed_launcher_is_started_again(backend: NativeBackend) -> None:
    cell = await backend.open(plan())
    backend._keeper.kill()
    await asyncio.wait_for(cell.ended.wait(), 5)
    assert (await run(await backend.open(plan("again")), "echo up")).stdout.data == b"up\n"


async def test_what_the_kernel_refuses_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no user namespaces" in native_cell.reason("unshare: Operation not permitted")
    assert "older than 5.12" in native_cell.reason("open_tree /usr: Function not implemented")
    assert native_cell.reason("other") == "other"
    monkeypatch.setattr(sys, "platform", "darwin")
    report = await NativeBackend().probe()
    assert (report.available, report.reason) == (False, "needs Linux")


async def test_a_launcher_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_BOOT", "import sys; sys.exit(1)")
    backend = NativeBackend()
    report = await backend.probe()
    assert not report.available
    assert "does not start" in report.reason
    await backend.close()


def test_less_is_left_when_there_are_no_control_groups() -> None:
    spec = Spec(session_id="s", memory_mb=64, pids_limit=10, workspace_quota_mb=3)
    limits = native._rlimits(spec, [])
    assert (limits["NPROC"][0], limits["DATA"][0], limits["FSIZE"][0]) == (14, 80 << 20, 3 << 20)
    assert set(native._rlimits(Spec(session_id="s"), ["memory", "pids"])) == {"CORE", "NOFILE", "MEMLOCK"}
    assert len(layout.cpu_set(0.5, 0)) == 1
    assert len(layout.cpu_set(1000, 3)) == len(os.sched_getaffinity(0))


# ------------------------------------------------------------------ the end of everything

SERVER = """
import asyncio, json, sys
sys.path[:0] = sys.argv[1:]
from botbook._local import box_server
from botbook.sandbox import AsyncBox

async def main():
    server, endpoint = await box_server.start()
    async with AsyncBox(endpoint.url, endpoint.token) as box:
        loop = "trap : TERM HUP; while :; do sleep 0.05; done"
        await box.exec(f"(setsid sh -c '{loop}' MARK > /dev/null 2>&1 &)")
        print(json.dumps({"pid": server.runtime._backend._keeper.pid}), flush=True)
        await box.exec("sh -c 'while :; do sleep 0.05; done' MARK", timeout=60)

asyncio.run(main())
"""


def living(mark: str) -> int:
    count = 0
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += mark.encode() in place.read_bytes()
        except OSError:
            continue
    return count


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_runtime_that_is_killed_takes_everything_along(number: int) -> None:
    mark = f"mark-of-{os.getpid()}-{int(number)}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVER.replace("MARK", mark),
        SOURCES,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    keeper = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))["pid"]
    while living(f"{mark}\0") < 2:
        await asyncio.sleep(0.02)
    process.send_signal(number)
    await process.wait()
    for _ in range(200):
        if not living(f"{mark}\0") and not there(f"/proc/{keeper}"):
            break
        await asyncio.sleep(0.02)
    assert living(f"{mark}\0") == 0
    assert not there(f"/proc/{keeper}")


def test_a_directory_is_measured_until_it_is_too_much(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"x" * 50_000)
    (tmp_path / "link").symlink_to("/usr")
    size = tree_bytes(str(tmp_path), most=1 << 40)
    assert 50_000 < size < 80_000
    assert tree_bytes(str(tmp_path / "missing"), most=1) == 0
