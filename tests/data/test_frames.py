from __future__ import annotations

import contextlib
import itertools
import sqlite3
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook._data import frames
from botbook._data.frames import LiveFrame
from botbook._data.schema import COLUMNS, arrow_schema
from botbook._data.store import Store
from botbook._errors import CommandError, StoreError

from .conftest import START, event

TYPES = {
    "at": "datetime64[us, UTC]",
    "received_at": "datetime64[us, UTC]",
    "latency_s": "float64",
    "feedback_type": "Int64",
    "tokens": "Int64",
    "feedback_reasons": "list<item: string>[pyarrow]",
    "recovered": "bool",
}


@pytest.fixture
def live(store) -> LiveFrame:
    return LiveFrame(store)


@pytest.fixture
def feed(store, live):
    """Append by way of the store, as a bot does, and wait."""

    def run(events) -> None:
        store.append(events, live.append)
        assert store.flush(10)

    return run


def numbers(frame: pd.DataFrame) -> list[int]:
    return [int(name[1:]) for name in frame["event_id"]]


def full(number: int, **changes: object):
    values = {
        "latency_s": 0.5,
        "feedback_type": 2,
        "feedback_reasons": ("slow", "wrong"),
        "tokens": 7,
        "recovered": True,
        "error": "e",
    }
    return event(number, **(values | changes))


@pytest.mark.parametrize("count", [0, 3, 5000])
@pytest.mark.parametrize("asked", [{}, {"type": "message.*"}, {"limit": 2}, {"raw": True}])
def test_types_hold_for_every_question(live, feed, make, count, asked):
    feed(make(0, count))
    frame = live.events(**asked)
    assert list(frame.columns) == [column.name for column in COLUMNS] + ["raw"] * ("raw" in asked)
    for column in frame.columns:
        assert str(frame[column].dtype) == TYPES.get(column, "str")
    assert frame.index.equals(pd.RangeIndex(len(frame)))


def test_values(live, feed):
    feed([full(1), event(2)])
    frame = live.events()
    assert frame["at"].tolist() == [START + timedelta(seconds=1), START + timedelta(seconds=2)]
    assert frame["received_at"][0] == START + timedelta(seconds=1, microseconds=7)
    assert frame["feedback_reasons"].tolist() == [["slow", "wrong"], []]
    assert isinstance(frame["feedback_reasons"][0], list)
    assert frame["feedback_type"].tolist() == [2, pd.NA]
    assert frame["tokens"].tolist() == [7, pd.NA]
    assert frame["recovered"].tolist() == [True, False]
    assert frame["latency_s"][0] == 0.5
    assert np.isnan(frame["latency_s"][1])
    assert frame["reply_to"].tolist() == ["", ""]
    assert live.events(raw=True)["raw"].tolist() == ['{"n": 1}', '{"n": 2}']


def test_the_live_frame_equals_a_fresh_one_and_the_journal(store, live, feed, make):
    for start in range(0, 9000, 450):
        feed([full(start), *make(start + 1, start + 450)])
        live.events(limit=1)
    fresh = LiveFrame(store).events()
    pd.testing.assert_frame_equal(live.events(), fresh)
    assert live.arrow().equals(store.read())
    assert live.arrow().schema.equals(arrow_schema())
    assert live.arrow(raw=True, limit=3).equals(store.read(raw=True, limit=3))
    assert live.events()["at"].is_monotonic_increasing


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["own", "twice", "other", "hand", "ask"]), max_size=25))
def test_any_order_of_writers_and_questions(tmp_path_factory, steps):
    """Each row once, in order of seq, whoever wrote it, whenever it was handed on or asked for."""
    path = tmp_path_factory.mktemp("j") / "j.sqlite"
    store, other, count = Store(path), Store(path), itertools.count()
    live, held = LiveFrame(store), []
    for step in [*steps, "ask", "hand", "ask"]:
        n = next(count)
        if step == "own":
            store.append([event(n)], held.append)
        elif step == "twice":
            store.append([event(n), event(n - 1), event(n + 1000)], held.append)
        elif step == "other":
            other.append([event(n)], lambda new: None)
        elif step == "hand":  # on disk for a while, handed on only now
            for new in held:
                live.append(new)
            held.clear()
        else:
            assert live.arrow().equals(other.read())
        assert store.flush(10)
        assert other.flush(10)
    assert live.revision == other.head() - 1
    pd.testing.assert_frame_equal(live.events(), LiveFrame(other).events())
    store.close()
    other.close()


def test_rows_from_before_and_from_another_process_appear(path, make):
    earlier = Store(path)
    earlier.append(make(0, 5), lambda new: None)
    earlier.close()
    store, other = Store(path), Store(path)
    live = LiveFrame(store)
    other.append(make(5, 7), lambda new: None)
    assert other.flush(10)
    store.append(make(7, 9), live.append)
    assert store.flush(10)
    assert numbers(live.events()) == list(range(9))
    before = live.revision
    other.append(make(9, 10), lambda new: None)
    assert other.flush(10)
    assert live.revision == before + 1
    assert numbers(live.events()) == list(range(10))
    store.close()
    other.close()


def test_a_snapshot_is_its_owners(live, feed, make):
    feed(make(0, 10))
    mine, theirs = live.events(), live.events()
    mine.loc[0, ["text", "chat_id"]] = "mine"
    mine.loc[0, "tokens"] = 99
    mine.loc[0, "latency_s"] = 1.0
    mine.loc[0, "recovered"] = True
    mine.loc[0, "at"] = pd.Timestamp("2001-01-01", tz="UTC")
    mine["feedback_reasons"][0].append("mine")
    mine["extra"] = 1
    del mine["bot"]
    feed(make(10, 12))
    later = live.events()
    pd.testing.assert_frame_equal(later.iloc[:10], theirs)
    assert later["text"][0] == "text 0"
    assert later["feedback_reasons"][0] == []


def test_a_snapshot_stays_as_it_was_while_events_come(live, feed, make, monkeypatch):
    monkeypatch.setattr(frames, "BATCH_ROWS", 8)
    taken = []
    for start in range(0, 60, 3):
        feed([full(start, tokens=start), *make(start + 1, start + 3)])
        taken.append((start + 3, live.events(), live.events().copy(deep=True)))
    for count, frame, copy in taken:
        assert len(frame) == count
        pd.testing.assert_frame_equal(frame, copy)
        assert frame["tokens"].dropna().tolist() == list(range(0, count, 3))


def test_plain_columns_are_shared_not_copied(live, feed, make):
    feed(make(0, 10))
    first = live.events()
    feed(make(10, 20))
    second = live.events()
    assert np.shares_memory(first["latency_s"].to_numpy(), second["latency_s"].to_numpy())


def test_batches_are_sealed_without_a_question(store, live, make):
    for start in range(0, 2 * frames.BATCH_ROWS, 512):
        store.append(make(start, start + 512), live.append)
    assert store.flush(10)
    assert [len(batch) for batch in live._sealed] == [frames.BATCH_ROWS] * 2
    assert live._inbox == []


def test_questions_between_leave_no_crumbs(live, feed, make, monkeypatch):
    monkeypatch.setattr(frames, "BATCH_ROWS", 40)
    monkeypatch.setattr(frames, "SMALL_BATCHES", 5)
    for n in range(100):
        feed(make(n, n + 1))
        assert len(live.events()) == n + 1
        assert len(live._small) <= 5
    assert [len(batch) for batch in live._sealed] == [40, 40]
    assert live.arrow()["event_id"].num_chunks <= 2 + 5


def test_filters(live, feed, make):
    feed([*make(0, 4), event(9, type="feedback.received", bot="x", at=START + timedelta(minutes=50))])
    assert numbers(live.events(type="feedback.*")) == [9]
    assert numbers(live.events(type="message.received", limit=2)) == [2, 3]
    assert numbers(live.events(since="15m")) == [9]
    assert numbers(live.events(until=START + timedelta(seconds=2))) == [0, 1]
    assert numbers(live.events(bot="x", gateway="miti", chat_id="c0")) == [9]
    assert numbers(live.events(after_seq=4)) == [9]
    assert numbers(live.events(limit=0)) == []
    assert numbers(live.events(limit=99)) == [0, 1, 2, 3, 9]
    for ask in (live.events, live.arrow):
        with pytest.raises(CommandError):
            ask(since="soon")


def test_chunks_that_are_wanted_whole_are_not_copied(live, feed, make):
    feed(make(0, frames.BATCH_ROWS))
    feed(make(frames.BATCH_ROWS, frames.BATCH_ROWS + 10, type="feedback.received"))
    whole, some = live.arrow(), live.arrow(type="message.*")
    address = lambda table: table["text"].chunk(0).buffers()[2].address  # noqa: E731
    assert address(whole) == address(some)


def test_plain_pairs_will_do(store, live, keep, make):
    live.append(keep(make(0, 3)))
    assert numbers(live.events()) == [0, 1, 2]


def test_what_the_journal_had_to_mend_is_shown_mended(live, feed, make):
    feed(make(0, 1) + make(1, 2, text=5))  # SQLite takes it as text by itself
    assert live.events()["text"].tolist() == ["text 0", "5"]


def test_a_damaged_row_is_told_and_comes_back_when_it_is_mended(store, live, keep, make, path):
    keep(make(0, 3))

    def change(reasons: str) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE events SET feedback_reasons = ? WHERE seq = 2", (reasons,))
            connection.commit()

    change("[")
    for _ in range(2):
        with pytest.raises(StoreError, match="row 2"):
            live.events()
    change("")
    assert numbers(live.events()) == [0, 1, 2]


def test_the_writer_is_not_held_up_by_a_question(store, live, make, monkeypatch):
    """While somebody asks, rows wait in the inbox; trouble in reading stays away from the writer."""
    monkeypatch.setattr(frames, "BATCH_ROWS", 4)
    with live._lock:
        store.append(make(0, 6), live.append)
        assert store.flush(10)
    assert len(live._inbox) == 6

    def fail(*_: object) -> None:
        raise StoreError("no")

    monkeypatch.setattr(live, "_take", fail)
    store.append(make(6, 8), live.append)
    assert store.flush(10)
    monkeypatch.undo()
    assert numbers(live.events()) == list(range(8))


def test_a_question_costs_what_is_new(live, feed, make, monkeypatch):
    feed(make(0, 50))
    live.events()
    asked = []
    monkeypatch.setattr(live._store, "load", lambda *a: asked.append(a))
    feed(make(50, 60))
    assert len(live.events()) == 60
    assert asked == []  # own rows are never read back


def test_arrow_tables_go_to_other_engines(live, feed, make):
    import narwhals as nw
    import polars as pl

    feed([full(0), event(1)])
    assert pl.from_arrow(live.arrow())["tokens"].to_list() == [7, None]
    exploded = nw.from_native(live.events()).explode("feedback_reasons")
    assert exploded["feedback_reasons"].to_list()[:2] == ["slow", "wrong"]
    assert pa.Table.from_pandas(live.events()).num_rows == 2
