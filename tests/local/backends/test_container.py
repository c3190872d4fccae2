"""The docker and podman backends over an engine that is a shell script: the command line, no isolation."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from botbook._errors import SandboxError
from botbook._local.backends.base import CellPlan, Command
from botbook._local.backends.container import DockerBackend, PodmanBackend
from botbook._local.execution import collect
from botbook.wire.box import Mount, Spec

ENGINE = """#!/bin/sh
printf '%s\\n' "$*" >> "$ENGINE_LOG"
case $1 in
exec)
  shift
  while [ "${1#-}" != "$1" ]; do
    case $1 in --env) shift;; esac
    shift
  done
  shift
  exec "$@";;
run) case "$*" in *broken*) echo no such image >&2; exit 125;; *slow*) exec sleep 30;; esac; echo id;;
ps) echo "dead 999999999"; echo "alive $ENGINE_PID"; echo "odd";;
inspect) echo "$ENGINE_OOM";;
image) [ "$3" != missing ] || { echo No such image: missing >&2; exit 1; };;
esac
"""


@pytest.fixture(params=[DockerBackend, PodmanBackend])
async def engine(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / request.param.name
    program.write_text(ENGINE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("ENGINE_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("ENGINE_OOM", "false")
    monkeypatch.setenv("ENGINE_PID", str(os.getpid()))
    made = request.param()
    made.log = tmp_path / "log"
    yield made
    await made.close()


def plan(*mounts: Mount, **spec: object) -> CellPlan:
    return CellPlan(name="t", spec=Spec(session_id="t", **spec), mounts=mounts)


async def test_it_says_what_it_holds(engine) -> None:
    report = await engine.probe()
    assert report.available, report.reason
    assert {one.name for one in report.protections if not one.on} >= {"seccomp", "landlock"}
    removed = [line for line in engine.log.read_text().splitlines() if line.startswith("rm")]
    assert removed[0] == "rm --force dead"
    assert removed[1].startswith("rm --force botbook-box-probe")
    assert len(removed) == 2
    report = await type(engine)(image="missing").probe()
    assert (report.available, "No such image" in report.reason) == (False, True)


async def test_no_program_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert (await DockerBackend().probe()).reason == "there is no docker program"
    with pytest.raises(SandboxError, match="does not start"):
        await DockerBackend().engine("version")


async def test_a_container_is_started_without_privileges(engine) -> None:
    mounts = (
        Mount(host_path='/odd,"path', mount_path="/workspace", mode="ro"),
        Mount(host_path="/b", mount_path="/b"),
    )
    await engine.open(plan(*mounts, workspace_quota_mb=8, cpus=0.5, memory_mb=64))
    words = engine.log.read_text()
    for part in (
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--user 1000:1000",
        "--network none",
        "--read-only",
        "--memory 72m --memory-swap 72m",
        "--cpus 0.5",
        "fsize=8388608",
        '--mount type=bind,"src=/odd,""path","dst=/workspace",readonly',
        '--mount type=bind,"src=/b","dst=/b" --',
    ):
        assert part in words
    assert "/workspace:rw" not in words
    await engine.open(plan(network="on", read_only_rootfs=False))
    last = engine.log.read_text().splitlines()[-1]
    assert "--network" not in last
    assert "--read-only" not in last
    assert "/workspace:rw" in last


async def test_what_the_engine_refuses_is_told(engine) -> None:
    with pytest.raises(SandboxError, match="backend error: no such image"):
        await engine.open(plan(image="broken"))
    assert "rm --force" in engine.log.read_text()
    with pytest.raises(SandboxError, match="took more than"):
        await engine.engine("run", "slow", timeout=0.1)
    waiting = asyncio.ensure_future(engine.open(plan(image="slow")))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_variables_stand_on_no_command_line(engine, tmp_path: Path) -> None:
    cell = await engine.open(plan())
    script = 'printf "%s|%s|%s" "$SECRET" "$LD_PRELOAD" "${BOTBOOK_0-none}"; pwd; cat'
    command = Command(
        argv=("/bin/sh", "-c", script),
        env={"SECRET": "hunter2\nmore", "LD_PRELOAD": "/nothing.so"},
        cwd=str(tmp_path / "made"),
        stdin=True,
    )
    outcome = await collect(await cell.run(command), timeout=10, limit=1000, stdin=b"input")
    assert outcome.stdout.text(strip=True) == f"hunter2\nmore|/nothing.so|none{tmp_path}/made\ninput"
    assert "hunter2" not in engine.log.read_text()


async def test_a_command_is_ended_by_its_mark(engine, tmp_path: Path) -> None:
    cell = await engine.open(plan())
    loop = (
        "(setsid sh -c 'while :; do sleep 0.05; done' &) ; trap 'exit 7' TERM; while :; do sleep 0.02; done"
    )
    child = await cell.run(Command(argv=("/bin/sh", "-c", loop), cwd=str(tmp_path)))
    await asyncio.sleep(0.2)
    child.terminate()
    assert await asyncio.wait_for(child.wait(), 10) == 7
    child.close()
    child = await cell.run(Command(argv=("/bin/sh", "-c", loop), cwd=str(tmp_path)))
    outcome = await collect(child, timeout=0.3, limit=100)
    assert outcome.exit_code is None


async def test_a_kill_for_memory_is_told(engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = await engine.open(plan())
    for said, noted in (("true", True), ("false", False), ("nonsense", False)):
        monkeypatch.setenv("ENGINE_OOM", said)
        child = await cell.run(Command(argv=("/bin/sh", "-c", "exit 137"), cwd=str(tmp_path)))
        outcome = await collect(child, timeout=10, limit=100)
        assert (outcome.exit_code, bool(outcome.note)) == (137, noted)


async def test_the_end_of_a_session(engine, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = await engine.open(plan())
    with pytest.raises(SandboxError, match="cannot be shown"):
        await cell.mount(Mount(host_path="/x", mount_path="/x"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError):
        await cell.run(Command(argv=("true",)))
    await cell.close()
    await cell.close()
    with pytest.raises(SandboxError, match="has ended"):
        await cell.run(Command(argv=("true",)))
