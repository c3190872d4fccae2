from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._data import schema
from botbook._errors import StoreError
from botbook.events import Event

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WILD = st.text(st.characters(), max_size=8)  # with halves of surrogate pairs
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
WHOLE = st.none() | st.integers(-(2**63), 2**63 - 1)


def events(text: st.SearchStrategy[str] = TEXT, whole: st.SearchStrategy[int | None] = WHOLE):
    named = {column.name: text for column in schema.COLUMNS if column.kind == "text"}
    return st.builds(
        Event,
        **named,
        at=TIMES,
        received_at=TIMES,
        latency_s=st.none() | st.floats(allow_nan=False),
        feedback_type=whole,
        feedback_reasons=st.lists(text, max_size=3).map(tuple),
        tokens=whole,
        recovered=st.booleans(),
        raw_json=text,
    )


def test_columns_are_the_events_attributes_in_order():
    attributes = [field.name for field in fields(Event)]
    assert [column.name for column in schema.COLUMNS] == attributes[: len(schema.COLUMNS)]
    assert attributes[len(schema.COLUMNS) :] == ["raw_json", "parts", "actor"]


def test_arrow_schema():
    assert schema.arrow_schema().names == [column.name for column in schema.COLUMNS]
    assert schema.arrow_schema(raw=True).names[-1] == "raw"
    assert schema.arrow_schema().field("at").type == pa.timestamp("us", tz="UTC")
    assert schema.arrow_schema().field("feedback_reasons").type == pa.list_(pa.string())


@given(events())
def test_row_and_back(event: Event):
    assert schema.row_to_event(schema.to_row(event, 5)) == event


@given(st.lists(events(), max_size=4))
def test_arrow_holds_what_the_event_holds(made: list[Event]):
    batch = schema.rows_to_batch([schema.to_row(e, n) for n, e in enumerate(made, 1)], raw=True)
    assert batch.schema.names == ["seq", *schema.arrow_schema(raw=True).names]
    for row, event in zip(batch.to_pylist(), made, strict=True):
        for column in schema.COLUMNS:
            value = getattr(event, column.name)
            assert row[column.name] == (list(value) if column.kind == "texts" else value)
        assert row["raw"] == event.raw_json


@given(events(WILD, st.none() | st.integers()))
def test_storable_makes_anything_fit(event: Event):
    fit = schema.storable(event)
    batch = schema.rows_to_batch([schema.to_row(fit, 1)], raw=True)
    assert len(batch) == 1
    assert schema.storable(fit) == fit


def test_storable_mends_foreign_types_and_keeps_the_rest(make):
    (good,) = make(0, 1)
    assert schema.storable(good) == good
    odd = replace(good, user_name=None, chat_id=5, tokens="many", latency_s="soon", text="\ud83d\ude00\ud800")
    fit = schema.storable(odd)
    assert (fit.user_name, fit.chat_id, fit.tokens, fit.latency_s) == ("", "5", None, None)
    assert fit.text == "😀\ufffd"


@given(TIMES, st.integers(-1439, 1439))
def test_micros_are_exact_in_every_zone(at: datetime, minutes: int):
    assert schema.moment(schema.micros(at)) == at
    assert schema.micros(at.astimezone(timezone(timedelta(minutes=minutes)))) == schema.micros(at)


def test_a_time_without_zone_is_refused(make):
    (event,) = make(0, 1)
    with pytest.raises(TypeError):
        schema.to_row(replace(event, at=datetime(2026, 1, 1)), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feedback_reasons", "[broken"),
        ("feedback_reasons", "{}"),
        ("feedback_reasons", "[1]"),
        ("at", "never"),
        ("at", None),
        ("tokens", "many"),
        ("text", None),
    ],
)
def test_a_damaged_row_is_named(make, name, value):
    rows = [list(schema.to_row(event, seq)) for seq, event in enumerate(make(0, 4), 11)]
    rows[2][1 + schema.ROW_NAMES.index(name)] = value
    with pytest.raises(StoreError, match="row 13 of the journal is damaged") as caught:
        schema.rows_to_batch([tuple(row) for row in rows])
    assert "after_seq" in caught.value.hint
