from __future__ import annotations

import contextlib
import sqlite3
from datetime import timedelta

import pytest

from botbook._data import reader
from botbook._data.schema import arrow_schema
from botbook._errors import StoreError

from .conftest import START, event


def test_read_gives_the_schema_in_order_of_seq(store, keep, make):
    assert store.read().schema.equals(arrow_schema())
    keep(make(5, 8) + make(0, 2))
    table = store.read(raw=True)
    assert table.schema.equals(arrow_schema(raw=True))
    assert table["event_id"].to_pylist() == ["e5", "e6", "e7", "e0", "e1"]
    assert table["raw"].to_pylist()[0] == '{"n": 5}'
    assert store.read(limit=2)["event_id"].to_pylist() == ["e0", "e1"]
    assert store.read(limit=0).num_rows == 0
    assert store.read(after_seq=3, limit=1)["event_id"].to_pylist() == ["e1"]


def test_since_is_by_the_stores_clock(store, keep, make):
    keep([*make(0, 3), event(9, at=START + timedelta(minutes=59))])
    assert store.read(since="2m")["event_id"].to_pylist() == ["e9"]
    assert store.read(until="2m")["event_id"].to_pylist() == ["e0", "e1", "e2"]


def test_pending_rebuilds_events_oldest_first(store, keep, make):
    kept = keep(make(0, 9))
    assert store.pending() == kept
    assert store.pending(chat_id="c1", after_seq=2, limit=1) == [kept[4]]
    assert store.pending(type="feedback.*") == []
    assert kept[0][1].raw == {"n": 0}


def test_more_rows_than_a_chunk(store, keep, make, monkeypatch):
    monkeypatch.setattr(reader, "BATCH_ROWS", 4)
    keep(make(0, 10))
    assert store.read()["event_id"].to_pylist() == [f"e{n}" for n in range(10)]


def test_chats_since(store, keep, make):
    at = START + timedelta(days=1)
    keep(
        [
            event(1, chat_id="old", received_at=START),
            event(2, chat_id="a", received_at=at, text="hi"),
            event(3, chat_id="a", received_at=at, role="assistant", type="message.sent", text="hello"),
            event(4, chat_id="a", received_at=at, type="message.delta"),
            event(5, chat_id="b", received_at=at, role="assistant", type="message.sent", text="news"),
            event(6, chat_id="", received_at=at),
            event(7, chat_id="c", bot="other", received_at=at),
            event(8, chat_id="c", gateway="sim", received_at=at),
        ]
    )
    known = store.chats_since(gateway="miti", bot="b", at=at)
    assert [(chat.last.event_id, chat.said) for chat in known] == [
        ("e5", (("assistant", "news"),)),
        ("e2", (("user", "hi"), ("assistant", "hello"))),
    ]
    assert [c.last.chat_id for c in store.chats_since(gateway="miti", bot="b")] == ["b", "a", "old"]
    assert [c.last.chat_id for c in store.chats_since(gateway="miti", bot="b", limit=1)] == ["b"]
    assert [c.last.chat_id for c in store.chats_since(gateway="miti", bot="b", after_seq=3)] == ["b"]
    (_, chat) = store.chats_since(gateway="miti", bot="b", at=at, messages=1)
    assert chat.said == (("assistant", "hello"),)


def test_chats_are_looked_for_among_the_newest_rows(store, keep, make, monkeypatch):
    monkeypatch.setattr(reader, "CHAT_ROWS", 2)
    keep(make(0, 3))
    assert [c.last.chat_id for c in store.chats_since(gateway="miti", bot="b")] == ["c2", "c1"]


def damage(path, change):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()


def test_a_damaged_row_is_named_and_the_rest_can_be_read(store, keep, make, path):
    keep(make(0, 4))
    damage(path, "UPDATE events SET feedback_reasons = '[' WHERE seq = 2")
    for read in (store.read, store.pending, lambda: store.read(raw=True)):
        with pytest.raises(StoreError, match="row 2 of the journal is damaged") as caught:
            read()
        assert "after_seq" in caught.value.hint
    assert store.read(after_seq=2).num_rows == 2
    assert [seq for seq, _ in store.pending(after_seq=2)] == [3, 4]
    assert len(keep(make(4, 5))) == 1  # writing goes on


def test_text_that_is_no_text(store, keep, make, path):
    keep(make(0, 2))
    damage(path, "UPDATE events SET text = CAST(x'ff' AS TEXT) WHERE seq = 1")
    with pytest.raises(StoreError, match="damaged"):
        store.read()
    assert store.read(after_seq=1).num_rows == 1


def test_damaged_times_of_a_row_that_is_pending(store, keep, make, path):
    keep(make(0, 1))
    damage(path, "UPDATE events SET at = 'never'")
    with pytest.raises(StoreError, match="row 1"):
        store.pending()


def test_a_connection_in_use_while_the_store_closes(store, keep, make):
    keep(make(0, 3))
    with store._reader._view() as (_, head):
        assert head.next == 4
        store.close()
    assert store._reader._idle == []
