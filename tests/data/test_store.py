"""The journal among several processes, and when they are killed."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from botbook._data.store import Mark, Store

from .conftest import START

CHILD = str(Path(__file__).with_name("writing_child.py"))


def child(path: Path, *numbers: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, CHILD, str(path), *map(str, numbers)], stdout=-1, stderr=-1)


def ids(store: Store) -> list[str]:
    return store.read()["event_id"].to_pylist()


def test_dedupe_outlives_a_restart(path, make):
    for events, new in ((make(0, 3), 3), (make(1, 5), 2)):
        store = Store(path)
        got = []
        store.append(events, got.extend)
        assert store.close() == 0
        assert len(got) == new
    assert store.duplicates == 2


def test_two_threads_of_appends_lose_nothing(store, make):
    got: list[int] = []
    threads = [
        threading.Thread(
            target=lambda base: [
                store.append(make(n, n + 1), lambda new: got.extend(s for s, _ in new)) for n in base
            ],
            args=(range(start, start + 200),),
        )
        for start in (0, 200, 400)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert store.flush(10)
    assert got == list(range(1, 601))


def test_processes_write_and_read_one_file_at_the_same_time(store, path, make):
    """Two children write overlapping events while this process writes and reads."""
    children = [child(path, 0, 600, 20), child(path, 300, 600, 20)]
    got: list[tuple[int, str]] = []
    for n in range(600, 1200, 10):
        store.append(make(n, n + 10), lambda new: got.extend((seq, e.event_id) for seq, e in new))
        if n % 100 == 0:
            found = ids(store)
            assert len(found) == len(set(found))
    told: list[tuple[int, str]] = []
    for process in children:
        out, trouble = process.communicate(timeout=30)
        assert (process.returncode, trouble) == (0, b"")
        told += [(int(seq), name) for seq, name in (line.split() for line in out.decode().splitlines())]
    assert store.flush(10)
    told += got
    # Each event was handed on by exactly one process, under the seq that it has in the journal.
    assert sorted(told) == [(seq, e.event_id) for seq, e in store.pending()]
    assert sorted(ids(store)) == sorted(f"e{n}" for n in range(1200))


def test_twenty_kills_lose_nothing_that_was_handed_on(path):
    chance = random.Random(5)
    told: dict[int, str] = {}
    first = 0
    for _ in range(20):
        with child(path, first, 0, chance.choice([1, 7, 60, 300])) as process:
            assert process.stdout
            # The first word means that it writes; the kill comes at any moment after it.
            out = process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.0, 0.03))
            process.kill()
            out += process.stdout.read()
        lines = out.decode().splitlines()[: None if out.endswith(b"\n") else -1]
        told |= {int(seq): name for seq, name in (line.split() for line in lines)}
        first = max(int(name[1:]) for name in told.values()) - 5  # some come again
        first = max(first, 0)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        kept = dict(connection.execute("SELECT seq, event_id FROM events"))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(told) > 100
    assert told.items() <= kept.items()
    assert len(set(kept.values())) == len(kept)


CALLS = "seq event_id type handler version state started_at ended_at seconds error calls"


def test_a_handlers_run_is_one_record(store, keep, make):
    keep(make(0, 2))
    at = START
    store.mark([Mark(seq=1, handler="h", version="v1", state="started", at=at)])
    assert store.flush(10)
    assert not store.is_finished(1, "h")
    done = Mark(seq=1, handler="h", version="v1", state="done", at=at + timedelta(seconds=2), seconds=2.0)
    store.mark([done, Mark(seq=2, handler="h", state="started", at=at)])
    store.mark([Mark(seq=2, handler="h", state="failed", at=at, seconds=0.5, error="no", calls_json="[1]")])
    store.mark(
        [Mark(seq=2, handler="g", state="timeout", at=at), Mark(seq=99, handler="h", state="done", at=at)]
    )
    assert store.flush(10)
    table = store.calls()
    assert table.column_names == CALLS.split()
    assert [tuple(row.values())[:6] for row in table.to_pylist()] == [
        (1, "e0", "message.received", "h", "v1", "done"),
        (2, "e1", "message.received", "g", "", "timeout"),
        (2, "e1", "message.received", "h", "", "failed"),
        (99, "", "", "h", "", "done"),
    ]
    first = table.to_pylist()[0]
    assert (first["started_at"], first["ended_at"], first["seconds"]) == (at, at + timedelta(seconds=2), 2.0)
    assert store.is_finished(1, "h")
    assert not store.is_finished(1, "g")
    assert store.calls(handler="g")["seq"].to_pylist() == [2]
    assert store.calls(limit=1)["seq"].to_pylist() == [99]
    assert store.calls(handler="nobody").num_rows == 0


def test_marks_are_on_disk_before_their_done(store, keep, path, make):
    keep(make(0, 1))
    states = []

    def done():
        with contextlib.closing(sqlite3.connect(path)) as connection:
            states.extend(connection.execute("SELECT seq, handler, state FROM calls").fetchall())

    store.mark([Mark(seq=1, handler="h", state="started", at=START)], done)
    assert store.flush(10)
    assert states == [(1, "h", "started")]


BEGIN = """
import os, sys
from datetime import UTC, datetime
from botbook._data.store import Mark, Store
store, at = Store(sys.argv[1]), datetime(2026, 1, 1, tzinfo=UTC)
steps = (1, "cut", "started"), (2, "ended", "started"), (2, "ended", "done"), (2, "cut", "started")
for seq, handler, state in steps:
    store.mark([Mark(seq=seq, handler=handler, state=state, at=at)])
assert store.flush(10)
print("ready", flush=True)
sys.stdin.readline()
os._exit(1)
"""


def test_interrupted_are_those_whose_process_is_gone(store, keep, path, make):
    keep(make(0, 2))
    store.mark([Mark(seq=1, handler="mine", state="started", at=START)])
    assert store.flush(10)
    with subprocess.Popen([sys.executable, "-c", BEGIN, str(path)], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "ready\n"
        assert store.interrupted() == []  # both kernels live
        assert other.stdin
        other.stdin.write("\n")
        other.stdin.flush()
        other.wait(10)
    assert [(seq, e.event_id, name) for seq, e, name in store.interrupted()] == [
        (1, "e0", "cut"),
        (2, "e1", "cut"),
    ]
    store.mark([Mark(seq=1, handler="cut", state="started", at=START)])  # run again, here
    assert store.flush(10)
    assert [(seq, name) for seq, _, name in store.interrupted()] == [(2, "cut")]


def test_a_repr_that_says_where(store, path):
    assert repr(store) == f"Store({str(path)!r})"


def test_importing_the_store_is_light():
    code = (
        "import sys, botbook._data.store, botbook._data.frames\n"
        "print([m for m in ('pandas', 'pyarrow', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert run.stdout == "[]\n"
