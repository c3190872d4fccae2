"""The nsjail backend over a stand-in that is a shell script: the command line, no isolation."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from botbook._errors import SandboxError
from botbook._local.backends.base import PROTECTIONS, CellPlan, Command
from botbook._local.backends.bubblewrap import BubblewrapBackend
from botbook._local.backends.jail import cgroups
from botbook._local.backends.nsjail import NsjailBackend
from botbook._local.execution import collect
from botbook.wire.box import Mount, Spec

NSJAIL = """#!/bin/sh
printf '%s\\n' "$*" >> "${0%/*}/log"
case $(cat "${0%/*}/mode" 2> /dev/null) in broken) echo '[F] clone() failed' >&2; exit 255;; esac
while [ "$1" != -- ]; do shift; done
shift
exec 3<&0
"$@" <&3 3<&- &
wait $!
"""


@pytest.fixture
async def nsjail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "nsjail"
    program.write_text(NSJAIL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)  # root would have nsjail run as somebody else
    made = NsjailBackend()
    made.log, made.mode = programs / "log", programs / "mode"
    yield made
    await made.close()


def there(path: str) -> bool:
    return os.path.exists(path)


def plan(*mounts: Mount, **spec: object) -> CellPlan:
    return CellPlan(name="t", spec=Spec(session_id="t", **spec), mounts=mounts)


async def run(cell, script: str, place: Path, *, timeout: float = 10, **more):
    child = await cell.run(Command(argv=("/bin/sh", "-c", script), cwd=str(place), stdin="stdin" in more))
    return await collect(child, timeout=timeout, limit=100_000, **more)


async def test_it_says_what_it_holds_and_what_not(nsjail) -> None:
    report = await nsjail.probe()
    assert report.available, report.reason
    assert [one.name for one in report.protections] == list(PROTECTIONS)
    off = {one.name for one in report.protections if not one.on}
    assert off == {"uid_per_session", "seccomp", "landlock", "disk"}
    nsjail.mode.write_text("broken")
    assert (await nsjail.probe()).reason == "[F] clone() failed"


async def test_without_the_program_it_was_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    report = await NsjailBackend().probe()
    assert (report.available, report.reason) == (
        False,
        "there is no nsjail program, so it was not tried here",
    )
    made = NsjailBackend()
    cell = await made.open(plan())
    monkeypatch.setattr("botbook._local.backends.nsjail._START", "exit 1")
    child = await cell.run(Command(argv=("true",), cwd="/"))
    assert (await collect(child, timeout=5, limit=10)).exit_code == 1
    await made.close()


async def test_a_jail_is_made_without_privileges(nsjail, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    mounts = (
        Mount(host_path=str(tmp_path / "a"), mount_path="/workspace", mode="ro"),
        Mount(host_path=str(tmp_path / "b"), mount_path="/b"),
    )
    cell = await nsjail.open(plan(*mounts, memory_mb=64))
    await run(cell, "true", tmp_path)
    words = nsjail.log.read_text()
    for part in (
        "--mode o --really_quiet",
        "--time_limit 0 --user 1000:1234:1 --group 1000:1234:1 --disable_rlimits",
        "--bindmount_ro /usr:/usr",
        f"--bindmount_ro {tmp_path}/a:/workspace --bindmount {tmp_path}/b:/b",
        "--mount none:/run:tmpfs:size=1048576",
        "--bindmount /dev/null",
        "/texts/_etc_passwd:/etc/passwd",
    ):
        assert part in words, part
    for part in ("--disable_clone_newnet", "--rw", "--keep_caps", "--keep_env", "--disable_no_new_privs"):
        assert part not in words
    await cell.mount(Mount(host_path=str(tmp_path / "b"), mount_path="/later", mode="ro"))
    open_cell = await nsjail.open(plan(network="on", read_only_rootfs=False))
    for one in (cell, open_cell):
        await run(one, "true", tmp_path)
    later, last = nsjail.log.read_text().splitlines()[-2:]
    assert f"--bindmount_ro {tmp_path}/b:/later" in later
    assert "--disable_clone_newnet --rw" in last


async def test_variables_stand_on_no_command_line(nsjail, tmp_path: Path) -> None:
    cell = await nsjail.open(plan())
    script = 'printf "%s|%s|%s" "$SECRET" "$LD_PRELOAD" "${BOTBOOK_0-none}${LIMITS-}"; pwd; cat'
    command = Command(
        argv=("/bin/sh", "-c", script),
        env={"SECRET": "hunter2\nmore", "LD_PRELOAD": "/nothing.so"},
        cwd=str(tmp_path / "made"),
        stdin=True,
    )
    outcome = await collect(await cell.run(command), timeout=10, limit=1000, stdin=b"input")
    assert outcome.stdout.text(strip=True) == f"hunter2\nmore|/nothing.so|none{tmp_path}/made\ninput"
    assert "hunter2" not in nsjail.log.read_text()


async def test_codes_signals_and_limits_inside(nsjail, tmp_path: Path) -> None:
    cell = await nsjail.open(plan())
    assert (await run(cell, "exit 3", tmp_path)).exit_code == 3
    assert (await run(cell, "kill -9 $$", tmp_path)).exit_code == 137
    assert (await run(cell, "ulimit -n", tmp_path)).stdout.data == b"1024\n"
    loop = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.02; done"
    child = await cell.run(Command(argv=("/bin/sh", "-c", loop), cwd=str(tmp_path)))
    assert await child.stdout.readline() == b"up\n"
    child.terminate()
    assert await asyncio.wait_for(child.wait(), 5) == 7
    child.close()


async def test_a_command_longer_than_an_argument(nsjail, tmp_path: Path) -> None:
    cell = await nsjail.open(plan())
    command = Command(argv=("/bin/sh", "-lc", ": " + "x" * 400_000), cwd=str(tmp_path))
    await collect(await cell.run(command), timeout=5, limit=1000)
    line = nsjail.log.read_text().splitlines()[-1]
    assert line.endswith("/bin/sh -l /run/script")
    assert len(line) < 50_000


async def test_its_time_ends_it_and_a_session_ends_all(nsjail, tmp_path: Path) -> None:
    cell = await nsjail.open(plan())
    assert (await run(cell, "sleep 60", tmp_path, timeout=0.2)).exit_code is None
    place = cell.watched[0]
    assert there(place)
    await cell.close()
    assert not there(place)
    with pytest.raises(SandboxError, match="has ended"):
        await cell.run(Command(argv=("true",)))


async def test_a_path_with_a_colon_is_refused(nsjail, tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    cell = await nsjail.open(plan(Mount(host_path=str(tmp_path / "a:b"), mount_path="/x")))
    with pytest.raises(SandboxError, match="no path with a colon"):
        await cell.run(Command(argv=("true",)))


async def test_memory_is_watched_where_no_control_group_holds_it(
    nsjail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "parents", dict)
    report = await nsjail.probe()
    assert next(one.how for one in report.protections if one.name == "memory").endswith("a watch on all")
    cell = await nsjail.open(plan(memory_mb=32, pids_limit=900))
    assert cell.controllers == []
    assert (await run(cell, "ulimit -d", tmp_path)).stdout.data == b"49152\n"
    one = f"{sys.executable} -c 'b = bytes(1) * 30_000_000; import time; time.sleep(3)' &"
    outcome = await run(cell, f"{one} {one} {one} wait", tmp_path)
    assert outcome.exit_code == 137
    assert outcome.note == "Killed: out of memory."


async def test_a_directory_that_the_sandboxs_user_cannot_reach(
    nsjail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed" / "in").mkdir()
    with pytest.raises(SandboxError, match="does not exist"):
        await nsjail.open(plan(Mount(host_path=str(tmp_path / "missing"), mount_path="/x")))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    with pytest.raises(SandboxError, match="cannot be used by a sandbox's user"):
        await nsjail.open(plan(Mount(host_path=str(tmp_path / "closed" / "in"), mount_path="/x", mode="ro")))


async def test_a_helper_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    made = BubblewrapBackend()
    cell = await made.open(plan())
    monkeypatch.setenv("PATH", "/nowhere")
    for stdin in (True, False):
        with pytest.raises(SandboxError, match="bwrap does not start"):
            await cell.run(Command(argv=("true",), stdin=stdin))
    await made.close()
