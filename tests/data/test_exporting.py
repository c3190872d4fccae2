from __future__ import annotations

import csv
import json
import sys
import types
from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from botbook._data.archive import archive
from botbook._data.exporting import FORMATS, anonymous, export_events, format_of
from botbook._data.record import event_from_line
from botbook._data.schema import arrow_schema
from botbook._errors import CommandError, ConfigError, StoreFull

from .conftest import START, event

LATE = START + timedelta(days=9)


@pytest.fixture
def filled(store, keep, make):
    keep(
        [event(0, feedback_type=2, feedback_reasons=('a "b"', "ü"), tokens=3, latency_s=0.5, text='x,"y"\nz')]
    )
    keep(make(1, 40, user_name="Ann Other", error="ValueError: Ann did it"))
    archive(store.path, before=LATE, now=LATE, segment_rows=15, sleep=lambda seconds: None)
    keep(make(40, 50))
    return store


def test_parquet(filled, tmp_path):
    told = export_events(filled, tmp_path / "e.parquet")
    assert (told.rows, told.format, told.anonymous) == (50, "parquet", False)
    assert pq.read_table(told.path).equals(filled.read())
    export_events(filled, tmp_path / "e.parquet", raw=True, type="message.*", bot="b")
    assert pq.read_table(told.path).equals(filled.read(raw=True))
    assert told.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("*e.parquet*")] == ["e.parquet"]


def test_csv(filled, tmp_path):
    export_events(filled, tmp_path / "e.csv")
    with (tmp_path / "e.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == arrow_schema().names
    assert rows[0]["text"] == 'x,"y"\nz'
    assert json.loads(rows[0]["feedback_reasons"]) == ['a "b"', "ü"]
    assert rows[1]["tokens"] == rows[1]["latency_s"] == ""
    assert rows[0]["at"] == "2026-01-01T00:00:00+00:00"
    assert rows[0]["recovered"] == "false"


def test_json_lines_are_a_record_file(filled, tmp_path):
    export_events(filled, tmp_path / "e.jsonl", since=START + timedelta(seconds=30))
    lines = (tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()
    assert [event_from_line(line) for line in lines] == [one for _, one in filled.pending(after_seq=30)]


def test_delta(filled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError, match="deltalake"):
        export_events(filled, tmp_path / "e.delta")
    kept = []
    fake = types.SimpleNamespace(
        write_deltalake=lambda path, reader, mode: kept.append((path, reader.read_all(), mode)),
        exceptions=types.SimpleNamespace(DeltaError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "deltalake", fake)
    assert export_events(filled, tmp_path / "e.delta").rows == 50
    assert kept[0][1].equals(filled.read())
    assert kept[0][2] == "overwrite"


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_anonymous_files_name_nobody(filled, tmp_path, kind):
    path = tmp_path / f"e.{kind}"
    told = export_events(filled, path, anonymize=True, raw=True, key=b"k")
    assert told.anonymous
    data = str(pq.read_table(path).to_pylist()) if kind == "parquet" else path.read_text(encoding="utf-8")
    for trace in ("Ann", "u1", "m17", "e17", "text 17", '"n"', "c2'", "did it"):
        assert trace not in data
    assert "ValueError" in data


def test_hashes_join_and_depend_on_the_key():
    change = anonymous(b"one", texts=True)
    first = change(event(1, reply_to="m2"))
    second = change(event(2))
    assert first.reply_to == second.message_id
    assert first.text == "text 1"
    assert first.error == ""
    assert change(event(1, error="all of it went wrong")).error == "error"
    assert first.feedback_id == ""
    assert anonymous(b"two", texts=True)(event(1)).user_id != first.user_id


def test_what_cannot_be_written(filled, tmp_path):
    with pytest.raises(CommandError, match="does not say"):
        export_events(filled, tmp_path / "e.xlsx")
    with pytest.raises(CommandError, match="no format"):
        export_events(filled, tmp_path / "e", format="xml")
    with pytest.raises(CommandError, match="there is no limit"):
        export_events(filled, tmp_path / "e.csv", limit=3)
    with pytest.raises(StoreFull):
        export_events(filled, tmp_path / "no" / "e.csv")
    assert list(tmp_path.glob("*tmp*")) == []
    assert {format_of(tmp_path / f"a.{name.upper()}") for name in FORMATS} == set(FORMATS)
