from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from botbook import metrics
from botbook._data.exporting import export_events
from botbook._data.frames import LiveFrame
from botbook._data.store import Store
from botbook._errors import CommandError, StoreError
from botbook._transfer import load_file

SAMPLE = Path(__file__).parent.parent / "notebooks" / "data" / "topical_chat_sample.jsonl.gz"
NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "j.sqlite", now=lambda: NOW)
    yield opened
    opened.close()


def test_topical_chat_is_told_by_its_look(store):
    told = load_file(store, SAMPLE, days=7, seed=3)
    assert told.rows == told.new == store.read().num_rows > 1000
    assert told.skipped == 0
    assert "no clock times: these are made up, over 7 days, with seed 3" in told.notes[0]
    assert "Excellent and Good are likes" in told.notes[0]
    frame = LiveFrame(store).events()
    assert (frame["at"].max() - frame["at"].min()).days in (6, 7)
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rated = [row for row in rows if row["agent"] == "agent_2" and row["turn_rating"]]
    liked = sum(row["turn_rating"] in ("Excellent", "Good") for row in rated)
    assert metrics.like_rate(frame)["likes"].sum() == liked


def test_the_same_file_again_brings_nothing_new(store, tmp_path):
    first = load_file(store, SAMPLE)
    assert load_file(store, SAMPLE).new == 0
    store.archive(before="1s")
    assert load_file(store, SAMPLE).new == 0
    assert store.read().num_rows == first.rows


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_there_and_back(store, tmp_path, kind):
    load_file(store, SAMPLE)
    path = tmp_path / f"e.{kind}"
    export_events(store, path, raw=True)
    other = Store(tmp_path / "k.sqlite")
    seen = []
    told = load_file(other, path, progress=seen.append)
    assert told.new == told.rows == seen[-1]
    assert other.read(raw=True).equals(store.read(raw=True))
    other.close()


def test_a_table_with_other_columns(store, tmp_path):
    path = tmp_path / "chat.log.csv"
    path.write_text("at,who,said\n2026-01-01T00:00:00Z,ann,Hi\nnever,ann,Hi\n")
    told = load_file(store, path, columns={"user_id": "who", "text": "said"})
    assert (told.rows, told.new, told.skipped) == (1, 1, 1)
    assert told.problem.startswith("row 3: ")
    assert store.read().to_pylist()[0]["bot"] == "chat"


def test_what_cannot_be_loaded(store, tmp_path):
    with pytest.raises(CommandError, match="no file"):
        load_file(store, tmp_path / "none.csv")
    path = tmp_path / "bad.jsonl"
    path.write_text("{\n[\n")
    with pytest.raises(StoreError, match=r"no row of .* line 1"):
        load_file(store, path)
    with pytest.raises(CommandError, match="no source"):
        load_file(store, path, source="web")
    (tmp_path / "x.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(StoreError, match="cannot be read"):
        load_file(store, tmp_path / "x.jsonl.gz")
