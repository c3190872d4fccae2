"""Erasing somebody: afterwards a search of the folder's bytes finds no trace."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook._data.archive import archive
from botbook._data.database import open_reader
from botbook._data.erase import forget
from botbook._data.frames import LiveFrame
from botbook._data.schema import Mark
from botbook._data.segments import folder_of
from botbook._data.store import Store
from botbook._errors import StoreError

from .conftest import START, event

LATE = START + timedelta(days=99)
ANN = "ann-4711"
TRACES = (ANN, "Annabel Lee", "kingdom by the sea", "quoted-by-the-bot", "streamed-later")


def trace(journal, words=TRACES) -> set[str]:
    """Which words stand in any file of the journal's folder, plain, in UTF-16 or as JSON."""
    found = set()
    for file in journal.parent.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            found |= {word for word in words if word.encode() in data or word.encode("utf-16-le") in data}
            if file.suffix == ".parquet":
                import pyarrow.parquet as pq

                found |= {word for word in words if word in str(pq.read_table(file).to_pylist())}
    return found


def world(number: int) -> list:
    """Ann in private and in a group, beside others."""
    n = number * 100
    own = {"user_id": ANN, "user_name": "Annabel Lee", "chat_id": f"si_{ANN}"}
    raw = json.dumps({"from": ANN, "name": "Annabel Lee", "text": "kingdom by the sea"})
    group = {"chat_type": "group", "chat_id": "g1"}
    return [
        event(n, **own, text="kingdom by the sea", raw_json=raw),
        event(n + 1, chat_id=f"si_{ANN}", user_id="", role="assistant", type="message.sent",
              text="quoted-by-the-bot"),
        event(n + 2, **own | group, text="kingdom by the sea", raw_json=raw),
        event(n + 3, **group, user_id="", role="assistant", type="message.sent", reply_to=f"m{n + 2}",
              text="quoted-by-the-bot", message_id=f"a{n}"),
        event(n + 4, **group, user_id="", role="assistant", type="message.edited", message_id=f"a{n}",
              text="streamed-later", raw_json='"streamed-later"'),
        event(n + 5, **group, user_id="bob", text=f"see {ANN}!",
              raw_json=json.dumps({"at": [ANN, f"{ANN}2"]})),
        event(n + 6, user_id=f"{ANN}2", chat_id="c9", text="another person"),
        event(n + 7, user_id="bob", chat_id="c8", text="nothing to do with it"),
    ]  # fmt: skip


@pytest.fixture
def filled(store, keep):
    for number in range(3):
        keep(world(number))
    archive(store.path, before=LATE, now=START, segment_rows=10, sleep=lambda seconds: None)
    keep(world(3))
    store.mark(
        [
            Mark(seq=1, handler="h", state="done", at=START, calls_json='["kingdom by the sea"]'),
            Mark(seq=8, handler="h", state="failed", at=START, error=f"no chat with {ANN}"),
            Mark(seq=7, handler="h", state="done", at=START),
        ]
    )
    store.flush()
    return store


def test_no_trace_is_left(filled):
    assert trace(filled.path) == set(TRACES)
    told = filled.forget(ANN)
    assert (told.events, told.edited, told.calls, told.complete) == (20, 4, 2, True)
    assert told.segments == 3
    found = filled.read(raw=True).to_pylist()
    assert [row["user_id"] for row in found] == ["bob", f"{ANN}2", "bob"] * 4
    assert found[0]["text"] == "see erased!"
    assert json.loads(found[0]["raw"]) == {"at": ["erased", f"{ANN}2"]}
    assert filled.calls()["seq"].to_pylist() == [7]
    assert trace(filled.path, TRACES[1:]) == set()


def test_the_id_itself_is_gone_where_no_other_begins_with_it(store, keep):
    keep([row for row in world(0) if row.user_id != f"{ANN}2"][:5])
    store.archive(before="1s")
    keep([row for row in world(1) if row.user_id != f"{ANN}2"][:5])
    assert trace(store.path) == set(TRACES)
    store.forget(ANN)
    assert trace(store.path) == set()
    assert store.read().num_rows == 0
    assert list(folder_of(store.path).glob("*.parquet")) == []


def test_live_frames_forget_too(filled):
    other = Store(filled.path)
    frames = [LiveFrame(filled), LiveFrame(other)]
    before = [(len(frame.events()), frame.revision) for frame in frames]
    filled.forget(ANN)
    for frame, (rows, revision) in zip(frames, before, strict=True):
        assert frame.revision > revision
        assert len(frame.events()) == rows - 20
        assert "Annabel Lee" not in set(frame.events()["user_name"])
        assert "kingdom by the sea" not in str(frame.arrow().to_pylist())
    other.close()


def test_events_go_on_coming(filled, keep):
    frame = LiveFrame(filled)
    filled.forget(ANN)
    filled.append([event(9000)], frame.append)
    filled.flush()
    assert frame.events()["event_id"].tolist()[-1] == "e9000"
    keep([event(0)])  # the erased event is not known any more
    assert filled.read()["event_id"].to_pylist()[-1] == "e0"


def test_nobody_of_that_name(filled):
    before, revision = filled.read(raw=True), filled.head()
    told = filled.forget("nobody")
    assert (told.events, told.edited, told.calls, told.segments) == (0, 0, 0, 0)
    assert filled.read(raw=True).equals(before)
    assert filled.head() == revision
    with pytest.raises(StoreError, match="without an id"):
        filled.forget("")


def test_a_damaged_segment_stops_it(filled):
    broken = sorted(folder_of(filled.path).glob("*.parquet"))[1]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:50])
    with pytest.raises(StoreError, match=broken.name):
        filled.forget(ANN)
    broken.write_bytes(whole)
    assert filled.read().num_rows == 32  # nothing was erased
    assert filled.forget(ANN).events == 20


def test_another_program_that_reads_is_told_of(filled):
    reader = open_reader(filled.path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchone()
    told = forget(filled.path, ANN, now=LATE, settle=0.1)
    assert not told.complete
    reader.execute("COMMIT")
    reader.close()
    assert forget(filled.path, ANN, now=LATE).complete
    assert trace(filled.path, TRACES[1:]) == set()


def test_rows_that_wait_to_be_removed_go_too(store, keep):
    keep(world(0))
    connection = sqlite3.connect(store.path, isolation_level=None)
    rows = connection.execute("SELECT * FROM events").fetchall()
    store.archive(before="1s")
    connection.execute("DROP TRIGGER events_sealed")
    connection.executemany(f"INSERT INTO events VALUES ({', '.join('?' * len(rows[0]))})", rows)
    connection.close()
    assert store.read().num_rows == 8
    assert store.forget(ANN).events == 5
    assert store.read().num_rows == 3
    assert trace(store.path, TRACES[1:]) == set()


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12))
def test_any_id(tmp_path_factory, ident):
    """Whatever the id is made of, no row is about it afterwards and rows of others stay."""
    path = tmp_path_factory.mktemp("e") / "j.sqlite"
    store = Store(path)
    texts = [event(1, user_id=ident, chat_id="x1"), event(2, user_id=f"q{ident}q", chat_id="x2")]
    store.append([*texts, event(3, user_id="q", chat_id="x3", text=f"to {ident} .")], lambda rows: None)
    store.flush()
    forget(path, ident, now=LATE)
    rows = store.read(raw=True).to_pylist()
    assert all(row["user_id"] != ident for row in rows)
    assert "e2" in {row["event_id"] for row in rows} or ident in ("private", "user", "q", "b", "miti", "x2")
    store.close()
