from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._data.filters import Filters, filters, time_of
from botbook._data.schema import micros
from botbook._errors import CommandError

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15s", 15), ("30m", 1800), ("1h", 3600), ("2d", 172800), (" 1.5h ", 5400), ("0s", 0)],
)
def test_spans(text, seconds):
    assert time_of(text, now=lambda: NOW) == NOW - timedelta(seconds=seconds)


def test_a_day_begins_in_utc():
    assert time_of("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    assert time_of(" 2024-02-29 ") == datetime(2024, 2, 29, tzinfo=UTC)


def test_times_with_zone_pass():
    assert time_of(NOW) is NOW
    assert filters(since=pd.Timestamp("2026-01-01", tz="Europe/Berlin")).since == micros(
        datetime(2025, 12, 31, 23, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "text",
    ["", "1", "h", "1x", "-1h", "1 h 2", "١h", "1h\n2", "2026-02-30", "2026-3-1", 5, None, "999999999d"],
)
def test_bad_times_say_what_to_write(text):
    with pytest.raises(CommandError) as caught:
        time_of(text)
    assert "1h" in caught.value.hint


def test_a_time_without_zone_is_refused():
    with pytest.raises(CommandError, match="no time zone"):
        filters(since=datetime(2026, 1, 1))


@given(st.text(max_size=12) | st.from_regex(r"\d{4}-\d\d-\d\d", fullmatch=True))
def test_any_text_is_a_time_or_an_error(text):
    with contextlib.suppress(CommandError):
        assert time_of(text, now=lambda: NOW).utcoffset() is not None


@pytest.mark.parametrize("pattern", ["", "*.received", "message.", "mess*", ".*", "a.*.*", "**", "a\0.*"])
def test_bad_patterns(pattern):
    with pytest.raises(CommandError, match="no pattern"):
        filters(type=pattern)


@pytest.mark.parametrize("limit", [-1, 1.5, "3", True])
def test_bad_limits(limit):
    with pytest.raises(CommandError, match="no number of rows"):
        filters(limit=limit)


def test_an_unknown_filter_names_the_known():
    with pytest.raises(CommandError, match="chat") as caught:
        filters(chat="x")
    assert "chat_id" in caught.value.hint


def test_nothing_asked_is_not_narrow():
    assert not filters().narrow
    assert not filters(type="*", limit=3).narrow
    assert filters(after_seq=1).narrow
    assert filters(bot="").narrow


CHOICES = {
    "type": st.sampled_from(["message.*", "message.received", "feedback.*", "*", "messag", "me%.*"]),
    "since": st.integers(0, 12).map(lambda n: datetime(2026, 1, 1, 0, 0, n, tzinfo=UTC)),
    "until": st.integers(0, 12).map(lambda n: datetime(2026, 1, 1, 0, 0, n, tzinfo=UTC)),
    "gateway": st.sampled_from(["miti", "sim"]),
    "bot": st.sampled_from(["b", "other", ""]),
    "chat_id": st.sampled_from(["c0", "c1", "none"]),
    "after_seq": st.integers(0, 12),
    "limit": st.integers(0, 12),
}


@pytest.fixture
def filled(store, keep, make):
    keep(make(0, 6) + make(6, 9, type="feedback.received") + make(9, 12, bot="other", gateway="sim"))
    return store


def test_sqlite_and_arrow_agree(filled):
    from botbook._data.frames import LiveFrame

    frame = LiveFrame(filled)

    @given(st.fixed_dictionaries({}, optional=CHOICES))
    def agree(asked):
        assert filled.read(**asked).equals(frame.arrow(**asked))

    agree()
    assert len(filled.read(type="message.*", bot="b")) == 6
    assert filled.read(type="me%.*").num_rows == 0


def test_before_seq_in_both(filled):
    import pyarrow as pa

    asked = Filters(before_seq=4)
    assert [seq for batch in filled.load(asked).batches for seq in batch["seq"].to_pylist()] == [1, 2, 3]
    whole = pa.Table.from_batches(filled.load(Filters()).batches)
    assert asked.pick(whole)["seq"].to_pylist() == [1, 2, 3]
