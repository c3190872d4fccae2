"""Sealing: nothing lost, nothing twice, whatever happens and whoever else is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest

from botbook._data import archive as sealing
from botbook._data import shelf
from botbook._data.archive import archive, discard
from botbook._data.database import open_writer
from botbook._data.frames import LiveFrame
from botbook._data.schema import Mark
from botbook._data.segments import DamagedSegment, folder_of, locked, manifest
from botbook._data.store import Store
from botbook._errors import CommandError, StoreError, StoreFull

from .conftest import START, event

LATE = START + timedelta(days=365)
ROUNDS = 50


def ids(store: Store, **asked) -> list[str]:
    return store.read(**asked)["event_id"].to_pylist()


def seal(store: Store, rows: int = 100, before=LATE, now=LATE):
    return archive(store.path, before=before, now=now, segment_rows=rows, sleep=lambda seconds: None)


def left(store: Store) -> int:
    connection = open_writer(store.path)
    try:
        return connection.execute("SELECT count(*) FROM events").fetchone()[0]
    finally:
        connection.close()


def segments(store: Store):
    connection = open_writer(store.path)
    try:
        return manifest(connection)
    finally:
        connection.close()


def test_nothing_changes_for_who_reads(store, keep, make):
    keep([event(n, feedback_reasons=("slow", "ü"), tokens=n, latency_s=0.5) for n in range(250)])
    before, raw = store.read(), store.read(raw=True)
    pending = store.pending(type="message.*", after_seq=90, limit=20)
    live = LiveFrame(store)
    told = seal(store)
    keep(make(250, 300))
    assert told.rows == 250
    assert len(told.segments) == 3
    assert left(store) == 50
    assert store.read(limit=None).slice(0, 250).equals(before)
    assert store.read(raw=True).slice(0, 250).equals(raw)
    assert store.pending(type="message.*", after_seq=90, limit=20) == pending
    assert [seq for seq, _ in store.pending(after_seq=240, limit=20)] == list(range(241, 261))
    assert ids(store, limit=60) == [f"e{n}" for n in range(240, 300)]
    assert ids(store, since=START + timedelta(seconds=120), until=START + timedelta(seconds=122)) == [
        "e120",
        "e121",
    ]
    assert live.arrow().equals(store.read())
    assert LiveFrame(store).arrow().equals(store.read())
    assert LiveFrame(store).events(limit=3)["event_id"].tolist() == ["e297", "e298", "e299"]


def test_only_what_is_old_goes(store, keep, make):
    keep(make(0, 100))
    keep([event(500), event(50_000), event(3)])
    told = seal(store, before=START + timedelta(seconds=100))
    assert told.rows == 100
    assert left(store) == 2
    assert len(ids(store)) == 102


def test_nothing_to_do(store):
    assert seal(store).rows == 0
    assert seal(store).segments == ()
    assert store.read().num_rows == 0


def test_by_hand(store, keep, make):
    keep(make(0, 20))
    assert store.archive(before="61m").rows == 0
    assert store.archive(before="1s").rows == 20
    with pytest.raises(CommandError, match="is no time"):
        store.archive(before="later")


def test_times_out_of_order_come_back_in_order_of_arrival(store, keep):
    numbers = random.Random(4).sample(range(1000), 300)
    keep([event(n) for n in numbers])
    seal(store)
    assert ids(store) == [f"e{n}" for n in numbers]
    assert ids(store, limit=150) == [f"e{n}" for n in numbers[-150:]]
    assert [one.in_order for one in segments(store)] == [0, 0, 0]
    import pyarrow.parquet as pq

    stored = pq.read_table(folder_of(store.path) / segments(store)[0].name)["at"].to_pylist()
    assert stored == sorted(stored)


def test_a_sealed_event_that_comes_again_is_left_out_for_a_week(store, keep, make):
    keep(make(0, 10))
    seal(store, now=START + timedelta(days=1))
    assert keep(make(5, 12)) != []
    assert ids(store) == [f"e{n}" for n in range(12)]
    assert store.duplicates == 5
    seal(store, before=START, now=START + timedelta(days=8))
    assert len(keep(make(5, 6))) == 1  # its id is not known any more


def test_files_are_the_owners_alone(store, keep, make):
    keep(make(0, 10))
    seal(store)
    folder = folder_of(store.path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.glob("*.parquet")} == {0}


def test_chats_calls_and_cut_off_runs_of_sealed_events(store, keep, make):
    keep(make(0, 9))
    store.mark([Mark(seq=2, handler="h", state="started", at=START)])
    store.mark([Mark(seq=4, handler="h", state="done", at=START)])
    store.flush()
    asked = {"gateway": "miti", "bot": "b", "at": START + timedelta(seconds=3)}
    before = store.chats_since(**asked), store.calls()
    connection = open_writer(store.path)
    connection.execute("UPDATE calls SET owner = 'gone|1|1'")
    connection.close()
    cut = store.interrupted()
    seal(store, 4)
    keep(make(9, 10))
    assert before[1].equals(store.calls())
    assert len(cut) == 1
    assert store.interrupted() == cut
    chats = store.chats_since(**asked)
    assert [chat.last.event_id for chat in chats] == ["e9", "e8", "e7"]
    assert len(chats[1].said) == len(before[0][0].said)


@pytest.mark.parametrize("harm", ["gone", "half", "bits", "foreign"])
def test_a_damaged_segment_is_named_and_the_rest_is_read(store, keep, make, harm):
    keep(make(0, 300))
    seal(store)
    broken = folder_of(store.path) / segments(store)[1].name
    data = broken.read_bytes()
    if harm == "gone":
        broken.unlink()
    else:
        middle = bytes(byte ^ 255 for byte in data[400:600])
        broken.write_bytes(
            {"half": data[: len(data) // 2], "bits": data[:400] + middle + data[600:], "foreign": b"x" * 99}[
                harm
            ]
        )
    keep(make(300, 310))
    with pytest.warns(DamagedSegment, match=broken.name):
        found = ids(store)
    assert found == [f"e{n}" for n in range(310) if not 100 <= n < 200]
    with pytest.warns(DamagedSegment):
        assert len(LiveFrame(store).events()) == 210
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(store, limit=50) == [f"e{n}" for n in range(260, 310)]


def test_a_damaged_row_stops_it_and_nothing_is_lost(store, keep, make):
    keep(make(0, 10))
    connection = open_writer(store.path)
    connection.execute("UPDATE events SET feedback_reasons = '{' WHERE seq = 5")
    with pytest.raises(StoreError, match="row 5"):
        seal(store)
    assert connection.execute("SELECT count(*) FROM events").fetchone()[0] == 10
    connection.close()


def test_a_full_disk_moves_nothing(store, keep, make, monkeypatch):
    keep(make(0, 10))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("botbook._data.segments.os.fsync", full)
    with pytest.raises(StoreFull, match="No space"):
        seal(store)
    monkeypatch.undo()
    assert len(ids(store)) == 10
    assert not list(folder_of(store.path).glob("*.parquet*"))
    assert seal(store).rows == 10


def test_one_at_a_time(store, keep, make, monkeypatch):
    keep(make(0, 10))
    monkeypatch.setattr("botbook._data.segments.LOCK_SECONDS", 0.01)
    with (
        locked(store.path),
        pytest.raises(StoreError, match="another program"),
        locked(store.path, seconds=0),
    ):
        raise AssertionError
    assert seal(store).rows == 10


def test_two_kernels_seal_at_once(path, make):
    stores = [Store(path), Store(path)]
    stores[0].append(make(0, 2000), lambda rows: None)
    stores[0].flush()
    told = []
    threads = [threading.Thread(target=lambda s=s: told.append(seal(s, 150))) for s in stores]
    for thread in threads:
        thread.start()
    stores[1].append(make(2000, 2100), lambda rows: None)
    for thread in threads:
        thread.join(30)
    stores[1].flush()
    assert sum(one.rows for one in told) in range(2000, 2101)
    assert ids(stores[0]) == ids(stores[1])
    assert sorted(ids(stores[0]), key=lambda name: int(name[1:])) == [f"e{n}" for n in range(2100)]
    for store in stores:
        store.close()


def test_reading_while_it_is_sealed_sees_each_once(store, keep, make):
    keep(make(0, 3000))
    seen, over = [], threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(len(set(ids(store))) - len(ids(store)) or len(ids(store)))

    reader = threading.Thread(target=look)
    reader.start()
    seal(store, 200)
    over.set()
    reader.join(30)
    assert set(seen) == {3000}


def test_live_frames_of_two_processes_over_a_seal(path, make):
    first, second = Store(path), Store(path)
    frame = LiveFrame(second)
    first.append(make(0, 500), lambda rows: None)
    first.flush()
    seal(first, 120)
    first.append(make(500, 520), lambda rows: None)
    first.flush()
    assert frame.events()["event_id"].tolist() == [f"e{n}" for n in range(520)]
    assert frame.events(type="message.*", limit=2)["event_id"].tolist() == ["e518", "e519"]
    first.close()
    second.close()


def test_a_large_archive_is_not_held(store, keep, make, monkeypatch):
    monkeypatch.setattr("botbook._data.frames.ARCHIVE_HELD", 100)
    keep(make(0, 300))
    seal(store)
    keep(make(300, 310))
    frame = LiveFrame(store)
    assert len(frame.events()) == 310
    assert len(frame.arrow()) == 310
    assert frame.events(limit=10)["event_id"].tolist() == [f"e{n}" for n in range(300, 310)]
    assert len(frame._sealed) == 1
    assert frame._floor == 300


def test_retention(store, keep, make):
    keep(make(0, 300))
    store.mark(
        [Mark(seq=2, handler="h", state="done", at=START), Mark(seq=250, handler="h", state="done", at=START)]
    )
    store.flush()
    frame, other = LiveFrame(store), LiveFrame(store)
    assert len(frame.events()) == 300
    seal(store)
    assert discard(store.path, before=START + timedelta(seconds=150)) == 100
    assert ids(store) == [f"e{n}" for n in range(100, 300)]
    assert len(frame.events()) == len(other.events()) == 200
    assert store.calls()["seq"].to_pylist() == [250]
    assert len(list(folder_of(store.path).glob("*.parquet"))) == 2
    assert store.discard(before=START) == 0


def test_what_a_crash_left_is_cleaned(store, keep, make):
    keep(make(0, 10))
    seal(store)
    folder = folder_of(store.path)
    (folder / "1-2-x.parquet").write_bytes(b"half")
    (folder / "1-2-x.parquet.tmp").write_bytes(b"half")
    seal(store)
    assert {path.name for path in folder.iterdir()} == {"lock", segments(store)[0].name}


class Sealer:
    """A process that archives over and over and is killed over and over."""

    def __init__(self, path: Path) -> None:
        code = str(Path(__file__).with_name("sealing_child.py"))
        self.process = subprocess.Popen(
            [sys.executable, code, str(path), "60"], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL
        )

    def run(self, seconds: float) -> bool:
        """One life. Returns whether it was cut short."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        word, pid = self.process.stdout.readline().split()
        assert word == b"pid"
        time.sleep(seconds)
        os.kill(int(pid), signal.SIGKILL)  # its parent has not waited for it: the id is still its own
        return self.process.stdout.readline().split() == [b"end", b"9"]

    def end(self) -> None:
        self.process.communicate(timeout=10)


def test_kill_9_at_50_random_points(path, make):
    """No event is lost and none is there twice, after each of fifty kills in the middle of sealing."""
    rng, store, sealer, cut, wrote = random.Random(11), Store(path), Sealer(path), 0, 0
    while cut < ROUNDS and wrote < 40_000:
        store.append(make(wrote, wrote + 200), lambda rows: None)
        assert store.flush()
        wrote += 200
        cut += sealer.run(rng.uniform(0.0, 0.06))
        found = ids(store)
        assert found == [f"e{n}" for n in range(wrote)]
    sealer.end()
    seal(store)
    assert cut == ROUNDS
    assert ids(store) == [f"e{n}" for n in range(wrote)]
    assert left(store) == 0
    known = {one.name for one in segments(store)}
    assert {file.name for file in folder_of(path).iterdir()} == known | {"lock"}
    store.close()


def test_steps_stay_short(store, keep, make):
    """However slow the disk, a step grows only while it is quick."""
    connection = open_writer(store.path)
    step, asked = sealing._Steps(connection, lambda seconds: None, nullcontext()), []

    def slow(rows: int) -> int:
        asked.append(rows)
        time.sleep(0.0001 * rows)
        return 1

    for _ in range(6):
        step.run(slow)
    connection.close()
    assert max(asked) <= 200


def test_a_segment_that_was_replaced_while_it_is_read(store, keep, make, monkeypatch):
    """A reader with the manifest of before asks again; only a file that should be there is damaged."""
    keep(make(0, 30))
    seal(store, 10)
    read = shelf.read_segment
    replaced = []

    def late(folder, segment, **options):
        if not replaced:
            replaced.append(discard(store.path, before=START + timedelta(seconds=10)))
        return read(folder, segment, **options)

    monkeypatch.setattr(shelf, "read_segment", late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(store) == [f"e{n}" for n in range(10, 30)]
    assert replaced == [10]
