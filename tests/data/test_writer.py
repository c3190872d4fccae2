from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._data.database import open_writer
from botbook._data.store import Mark, Store
from botbook._data.writer import BURST, GROUP, GROUP_SECONDS, Pace
from botbook._errors import StoreError, StoreFull

HUGE = 1 << 30
BIG = '"' + "x" * 3000 + '"'


def rows(path: Path) -> list[tuple[int, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT seq, event_id FROM events ORDER BY seq").fetchall()


def wait_for(true: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.002)


# When to commit


def test_the_first_commits_of_a_quiet_time_do_not_wait():
    pace = Pace()
    for _ in range(BURST):
        assert pace.delay(100.0) == 0.0
        pace.took(100.0)
    assert pace.delay(100.0) == pytest.approx(GROUP_SECONDS)
    assert pace.delay(100.0 + GROUP_SECONDS) == pytest.approx(0.0, abs=1e-9)


@given(st.lists(st.floats(0, 0.2), max_size=60))
def test_no_commit_waits_longer_than_the_group_time(steps):
    pace, now = Pace(), 5.0
    for step in steps:
        now += step
        pace.took(now)
        assert 0.0 <= pace.delay(now) <= GROUP_SECONDS + 1e-9


class Watched(sqlite3.Connection):
    """Counts commits."""

    commits = 0

    def execute(self, sql: str, *rest: object) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.commits += 1
        return super().execute(sql, *rest)


def watched(opened: list[Watched]) -> Callable[[Path], sqlite3.Connection]:
    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Watched)
        opened.append(connection)
        return connection

    return connect


def test_events_are_committed_in_groups(path, make):
    opened: list[Watched] = []
    store = Store(path, open_connection=watched(opened))
    got: list[str] = []
    for event in make(0, 1000):
        store.append([event], lambda new: got.extend(e.event_id for _, e in new))
    assert store.flush(10)
    store.close()
    assert got == [f"e{n}" for n in range(1000)]
    assert opened[0].commits <= BURST + 1000 // GROUP + 5


def test_after_a_burst_the_group_time_brings_the_commit(path, make):
    opened: list[Watched] = []
    store = Store(path, open_connection=watched(opened))
    got: list[int] = []
    for n in range(BURST):
        store.append(make(n, n + 1), lambda new: got.extend(seq for seq, _ in new))
        wait_for(lambda n=n: len(got) == n + 1)
    commits = opened[0].commits
    for n in range(BURST, BURST + 10):
        store.append(make(n, n + 1), lambda new: got.extend(seq for seq, _ in new))
    wait_for(lambda: len(got) == BURST + 10)  # nobody asked for a flush
    assert opened[0].commits - commits <= 3
    store.close()


# Nothing before its commit


def test_done_comes_after_the_commit(store, path, make):
    seen: list[bool] = []

    def done(new):
        on_disk = rows(path)
        seen.append(bool(new) and all((seq, e.event_id) in on_disk for seq, e in new))

    for start in range(0, 60, 3):
        store.append(make(start, start + 3), done)
    assert store.flush(10)
    assert seen == [True] * 20


def test_done_is_called_once_for_each_append_in_order(store, make):
    calls: list[list[int]] = []
    for events in (make(0, 2), make(0, 2), [], make(1, 4), make(3, 4) * 2 + make(9, 10)):
        store.append(events, lambda new: calls.append([int(e.event_id[1:]) for _, e in new]))
    assert store.flush(10)
    assert calls == [[0, 1], [], [], [2, 3], [9]]
    assert store.duplicates == 2 + 1 + 2
    assert store.backlog == 0


def test_done_carries_the_rows_as_sqlite_took_them(keep, store, make):
    kept = []
    store.append(make(0, 1) + make(0, 3), kept.append)
    assert store.flush(10)
    assert [row[0] for row in kept[0].rows] == [seq for seq, _ in kept[0]]
    assert [row[1 + 3] for row in kept[0].rows] == ["e0", "e1", "e2"]


def test_a_seq_is_never_given_twice(path, keep, make):
    assert [seq for seq, _ in keep(make(0, 3))] == [1, 2, 3]
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("DELETE FROM events WHERE seq >= 2")
        other.commit()
    assert [seq for seq, _ in keep(make(5, 6))] == [4]


def test_duplicates_do_not_use_up_seqs(keep, store, make):
    keep(make(0, 3))
    assert keep(make(0, 3)) == []
    assert store.head() == 4


def test_the_key_is_gateway_bot_and_id(keep, make):
    assert len(keep(make(0, 1) + make(0, 1, bot="x") + make(0, 1, gateway="sim") + make(0, 1))) == 3


def test_a_callback_that_fails_ends_nothing(store, make, caplog):
    store.append(make(0, 1), lambda new: 1 / 0)
    got = []
    store.append(make(1, 2), got.extend)
    assert store.flush(10)
    assert [e.event_id for _, e in got] == ["e1"]
    assert "ZeroDivisionError" in caplog.text


def test_a_time_without_zone_is_refused_at_once(store, make):
    (event,) = make(0, 1)
    with pytest.raises(TypeError):
        store.append([event, replace(event, at=event.at.replace(tzinfo=None))], print)
    assert store.backlog == 0


@pytest.mark.parametrize(
    ("change", "column", "kept"),
    [
        ({"text": "a\ud800"}, "text", "a\ufffd"),
        ({"tokens": 1 << 70}, "tokens", None),
        ({"tokens": "many"}, "tokens", None),
        ({"user_name": None}, "user_name", ""),
        ({"latency_s": "soon"}, "latency_s", None),
        ({"chat_id": object}, "chat_id", "<class 'object'>"),
        ({"feedback_reasons": (b"no json",)}, "feedback_reasons", ("b'no json'",)),
    ],
)
def test_a_value_that_does_not_fit_holds_nobody_up(store, make, change, column, kept):
    got = []
    store.append(make(0, 1) + make(1, 2, **change) + make(2, 3), got.extend)
    assert store.flush(10)
    assert [e.event_id for _, e in got] == ["e0", "e1", "e2"]
    assert getattr(got[1][1], column) == kept
    on_disk = store.read()[column].to_pylist()[1]
    assert on_disk == (list(kept) if isinstance(kept, tuple) else kept)


def test_a_mark_that_does_not_fit_is_mended(store, make, keep):
    keep(make(0, 1))
    store.mark([Mark(seq=1, handler="h", state="failed", at=make(0, 1)[0].at, error="bad \udc00")])
    assert store.flush(10)
    assert store.calls()["error"].to_pylist() == ["bad \ufffd"]


# Trouble


class Tight:
    """A journal whose room a test can take away and give back."""

    def __init__(self, path: Path, *, pages: int) -> None:
        self.pages = pages
        self.told: list[StoreError | None] = []
        self.connection: sqlite3.Connection | None = None
        self.store = Store(path, on_trouble=self.told.append, open_connection=self._open)

    def _open(self, path: Path) -> sqlite3.Connection:
        self.connection = open_writer(path)
        self.room(self.pages)
        return self.connection

    def room(self, pages: int) -> None:
        assert self.connection
        self.connection.execute(f"PRAGMA max_page_count={pages}")

    def readonly(self, on: bool) -> None:
        assert self.connection
        self.connection.execute(f"PRAGMA query_only={int(on)}")


def test_a_full_disk_is_told_and_nothing_is_lost_nor_kept_twice(path, make):
    tight = Tight(path, pages=100)
    store, got = tight.store, []
    for start in range(0, 400, 20):
        store.append(make(start, start + 20, raw_json=BIG), got.extend)
    wait_for(lambda: tight.told)
    assert isinstance(tight.told[0], StoreFull)
    assert "no room" in str(tight.told[0])
    assert "Free some space" in tight.told[0].hint
    assert store.backlog == 400 - len(got) > 0
    assert [(seq, e.event_id) for seq, e in got] == rows(path)  # what was handed on is what is there
    store.append(make(400, 420), got.extend)
    time.sleep(0.12)  # some retries
    assert len(tight.told) == 1
    tight.room(HUGE)
    assert store.flush(10)
    assert tight.told[1:] == [None]
    assert [e.event_id for _, e in got] == [f"e{n}" for n in range(420)]
    assert [(seq, e.event_id) for seq, e in got] == rows(path)
    assert store.close() == 0


def test_a_value_that_does_not_fit_behind_a_full_disk(path, make):
    tight = Tight(path, pages=1)
    got = []
    tight.store.append(make(0, 9, raw_json=BIG) + make(9, 10, text="\ud800"), got.extend)
    wait_for(lambda: tight.told)
    tight.room(HUGE)
    assert tight.store.flush(10)
    assert [e.event_id for _, e in got] == [f"e{n}" for n in range(10)]
    tight.store.close()


def test_a_read_only_journal_is_told_and_goes_on_later(path, make):
    tight = Tight(path, pages=HUGE)
    got = []
    tight.store.append(make(0, 1), got.extend)
    assert tight.store.flush(10)
    tight.readonly(True)
    tight.store.append(make(1, 3), got.extend)
    marked = threading.Event()
    tight.store.mark([Mark(seq=1, handler="h", state="started", at=make(0, 1)[0].at)], marked.set)
    wait_for(lambda: tight.told)
    assert isinstance(tight.told[0], StoreFull)
    assert "read-only" in str(tight.told[0])
    assert len(got) == 1
    assert not marked.is_set()
    tight.readonly(False)
    assert tight.store.flush(10)
    assert marked.is_set()
    assert [e.event_id for _, e in got] == ["e0", "e1", "e2"]
    assert tight.told[1:] == [None]
    tight.store.close()


def test_closing_in_trouble_is_short_and_says_what_is_left(path, make):
    tight = Tight(path, pages=1)
    tight.store.append(make(0, 7, raw_json=BIG), lambda new: None)
    wait_for(lambda: tight.told)
    began = time.monotonic()
    assert tight.store.close(timeout=5.0) == 7
    assert time.monotonic() - began < 2.0
    assert rows(path) == []


def test_closing_while_another_program_holds_the_lock_is_bounded(path, make):
    got = []
    store = Store(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.append(make(0, 1), got.extend)
    began = time.monotonic()
    assert store.close(timeout=0.1) == 1
    assert time.monotonic() - began < 1.0
    other.execute("COMMIT")
    other.close()
    wait_for(lambda: not store._writer._thread.is_alive())
    assert (got, rows(path)) == ([], [])  # given up is given up


def test_a_journal_that_is_moved_away_takes_no_events_along(path, make):
    told, got = [], []
    store = Store(path, on_trouble=told.append)
    store.append(make(0, 1), got.extend)
    assert store.flush(10)
    aside = path.with_name("aside")
    path.rename(aside)
    store.append(make(1, 2), got.extend)
    wait_for(lambda: told)
    assert "moved or deleted" in str(told[0])
    assert len(got) == 1
    aside.rename(path)
    assert store.flush(10)
    assert (len(got), told[1:]) == (2, [None])
    store.close()


def test_an_unforeseen_failure_is_trouble_too(path, make):
    told = []

    def connect(path: Path) -> sqlite3.Connection:
        if not told:
            raise RuntimeError("surprise")
        return open_writer(path)

    store = Store(path, on_trouble=told.append, open_connection=connect)
    store.append(make(0, 1), lambda new: None)
    assert store.flush(10)
    assert "surprise" in str(told[0])
    assert told[1:] == [None]
    store.close()


# The end


def test_a_closed_store_takes_nothing(path, make):
    store = Store(path)
    got = []
    store.append(make(0, 5), got.extend)
    assert store.close() == 0
    assert len(got) == 5
    with pytest.raises(StoreError, match="closed"):
        store.append(make(5, 6), print)
    with pytest.raises(StoreError, match="closed"):
        store.read()
    assert store.close() == 0


def test_closing_from_the_writers_own_thread(path, make):
    store = Store(path)
    left = []
    store.append(make(0, 1), lambda new: left.append(store.close()))
    wait_for(lambda: not store._writer._thread.is_alive())
    assert left == [0]


def test_a_store_that_is_forgotten_ends_its_thread(path, make):
    store = Store(path)
    thread = store._writer._thread
    store.append(make(0, 1), lambda new: None)
    del store
    thread.join(10)
    assert not thread.is_alive()
    assert len(rows(path)) == 1


def test_a_fork_may_not_use_it(store, make, monkeypatch):
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    for use in (lambda: store.append(make(0, 1), print), store.read, store.flush):
        with pytest.raises(StoreError, match="fork"):
            use()
    assert store.close() == 0
    monkeypatch.undo()
