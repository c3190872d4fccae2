from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from botbook._data.owner import UNSEEN_AFTER, is_gone, this_process

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = NOW - UNSEEN_AFTER - timedelta(seconds=1)


@pytest.fixture
def proc(tmp_path):
    """A process folder in which process 1000 + n started at tick n."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot-1\n")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    write_stat(tmp_path, os.getpid(), 77)
    write_stat(tmp_path, 1005, 5)
    return tmp_path


def write_stat(proc: Path, pid: int, start: int, state: str = "S") -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "stat").write_text(f"{pid} (a ) (b) {state} " + "0 " * 18 + f"{start} 0 0\n")


def test_this_process_lives(proc):
    assert this_process(proc=proc) == f"boot-1/pid:[1]|{os.getpid()}|77"
    assert not is_gone(this_process(proc=proc), LONG_AGO, now=NOW, proc=proc)
    assert not is_gone(this_process(), NOW, now=NOW)


@pytest.mark.parametrize(
    ("owner", "gone"),
    [
        ("boot-1/pid:[1]|1005|5", False),
        ("boot-1/pid:[1]|1005|6", True),  # the id was used again
        ("boot-1/pid:[1]|1006|5", True),
        ("boot-0/pid:[1]|1005|5", True),  # before the last boot
        ("boot-0/pid:[2]|1005|5", True),
    ],
)
def test_what_can_be_seen_is_known_at_once(proc, owner, gone):
    assert is_gone(owner, NOW, now=NOW, proc=proc) is gone


@pytest.mark.parametrize(
    "owner", ["boot-1/pid:[2]|1005|5", "|12|", "", "boot-1/pid:[1]|x|5", "boot-1/pid:[1]|1005|"]
)
def test_what_cannot_be_seen_is_gone_after_an_hour(proc, owner):
    assert not is_gone(owner, NOW, now=NOW, proc=proc)
    assert is_gone(owner, LONG_AGO, now=NOW, proc=proc)


def test_a_dead_process_that_nobody_fetched_is_gone(proc):
    write_stat(proc, 1005, 5, state="Z")
    assert is_gone("boot-1/pid:[1]|1005|5", NOW, now=NOW, proc=proc)


def test_without_a_process_folder(tmp_path):
    assert this_process(proc=tmp_path) == f"|{os.getpid()}|"


def test_a_real_process_that_ends():
    code = "from botbook._data.owner import this_process; print(this_process(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout
        assert child.stdin
        owner = child.stdout.readline().strip()
        assert not is_gone(owner, NOW, now=NOW)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.wait(10) == 0
    assert is_gone(owner, NOW, now=NOW)
