from __future__ import annotations

from datetime import timedelta

import pyarrow.dataset as ds
import pytest

from botbook import metrics
from botbook._data import lazy
from botbook._data.archive import archive
from botbook._data.frames import LiveFrame
from botbook._data.lazy import lazy_events, stream
from botbook._data.schema import arrow_schema
from botbook._data.segments import DamagedSegment, folder_of
from botbook._errors import CommandError, ConfigError, StoreError

from .conftest import START


@pytest.fixture
def filled(store, keep, make):
    keep(make(0, 50, type="message.received"))
    keep(make(50, 100, type="message.sent", bot="c"))
    late = START + timedelta(days=99)
    archive(store.path, before=late, now=late, segment_rows=30, sleep=lambda seconds: None)
    keep(make(100, 120, type="feedback.received"))
    return store


ASKED = [
    {},
    {"type": "message.*"},
    {"type": "feedback.received", "bot": "b"},
    {"since": START + timedelta(seconds=45), "until": START + timedelta(seconds=110)},
    {"chat_id": "c1", "gateway": "miti"},
    {"after_seq": 90},
    {"type": "message"},
    {"since": START + timedelta(days=2)},
]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("raw", [False, True])
def test_it_holds_what_a_frame_holds(filled, asked, raw):
    dataset = lazy_events(filled, engine="arrow", raw=raw, **asked)
    assert isinstance(dataset, ds.Dataset)
    expected = filled.read(raw=raw, **asked)
    names = arrow_schema(raw).names
    assert dataset.to_table(columns=names).sort_by("at").equals(expected)
    relation = lazy_events(filled, engine="duckdb", raw=raw, **asked)
    assert relation.columns == names
    found = relation.order('"at"').to_arrow_table()
    assert found["event_id"].to_pylist() == expected["event_id"].to_pylist()


def test_metrics_take_it(filled):
    lean = metrics.volume(lazy_events(filled), freq="h")
    frame = metrics.volume(LiveFrame(filled).events(), freq="h")
    assert lean["messages"].to_pylist() == frame["messages"].tolist()


def test_a_limit_is_refused(filled):
    with pytest.raises(CommandError, match="there is no limit"):
        lazy_events(filled, limit=3)


def test_without_duckdb(filled, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert isinstance(lazy_events(filled), ds.Dataset)
    with pytest.raises(ConfigError, match="not installed"):
        lazy_events(filled, engine="duckdb")


def test_a_damaged_segment_is_left_out(filled):
    broken = sorted(folder_of(filled.path).glob("*.parquet"))[0]
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.warns(DamagedSegment, match=broken.name):
        assert lazy_events(filled, engine="arrow").count_rows() == 90


def test_a_stream_that_breaks(filled, monkeypatch):
    class Broken:
        def to_batches(self, **options):
            raise OSError("bits")

    assert sum(map(len, stream(filled, raw=False))) == 120
    monkeypatch.setattr(lazy, "_dataset", lambda *a, **k: Broken())
    with pytest.raises(StoreError, match="bits"):
        list(stream(filled, raw=False))
