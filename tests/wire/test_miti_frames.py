"""The envelope and its fields."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import RemoteProtocolError
from botbook.wire.miti_frames import decode, encode, epoch_ms, from_epoch_ms, items_of, object_of, text_of

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def test_encode():
    frame = encode("x.y", {"n": 1}, event_id="e", app_id="a", at=AT)
    header = {"event_id": "e", "event_type": "x.y", "app_id": "a", "create_time": "1767323045678"}
    assert json.loads(frame) == {"schema": "1.0", "header": header, "event": {"n": 1}}


def test_frames_are_ascii_so_that_any_text_can_be_sent():
    assert encode("x", {"t": "\ud800é"}, event_id="e", app_id="a", at=AT).isascii()


@given(st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.lists(st.text())))
def test_decode_undoes_encode(body):
    assert decode(encode("x", body, event_id="e", app_id="a", at=AT))["event"] == body


def test_decode_allows_white_space_around():
    assert decode(' \n{"a": 1}\n') == {"a": 1}


def test_decode_replaces_lone_surrogates_everywhere():
    frame = r'{"\ud800": ["\uDfff", {"a": "x\ud800"}, 1, null, "\ud83c\udf31"]}'
    assert decode(frame) == {"\ufffd": ["\ufffd", {"a": "x\ufffd"}, 1, None, "🌱"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), ("", ""), (7, "7"), (-1, "-1"), (None, ""), (True, ""), (1.5, ""), ([], ""), ({}, "")],
)
def test_text_of(value, text):
    assert text_of(value) == text


def test_object_of():
    assert object_of({"a": 1}, "x") == {"a": 1}
    assert object_of(None, "x") == {}
    with pytest.raises(RemoteProtocolError, match="x is no object: the frame"):
        object_of([], "x", "the frame")


def test_items_of():
    assert items_of([1]) == [1]
    assert items_of("ab") == items_of(None) == []


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))
def test_times_keep_their_milliseconds(naive):
    at = naive.replace(tzinfo=UTC, microsecond=naive.microsecond // 1000 * 1000)
    assert from_epoch_ms(epoch_ms(at)) == from_epoch_ms(str(epoch_ms(at))) == at


@pytest.mark.parametrize(
    "value",
    [None, "", "x", "1.5", True, 0, -1, 1767225600, 4102444800000, float("nan"), float("inf"), [], {}],
)
def test_no_time(value):
    assert from_epoch_ms(value) is None


@given(st.text() | st.integers() | st.floats() | st.none())
def test_any_time(value):
    at = from_epoch_ms(value)
    assert at is None or 2000 <= at.year < 2100
