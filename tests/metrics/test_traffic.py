"""Volume and the hours of the week, against plain Python."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook import metrics
from tests.metrics.reference import (
    EXAMPLES,
    KINDS_EXAMPLES,
    MESSAGES,
    ZONES,
    arrow,
    frames,
    journals,
    known,
    label,
    labels,
    pandas,
    records,
    row,
    spoken,
)

FREQS = ("h", "D", "W", "M")


def bucket_key(record, freq):
    """The bucket of a record, named as the reference does."""
    return record["bucket"] if freq != "h" else (record["bucket"][:13], _offset(record["bucket"]))


def _offset(text):
    return datetime.fromisoformat(text).utcoffset()


def slow_volume(rows, freq, tz, by, as_of):
    kept = known(rows, as_of)
    messages = spoken(kept)
    counts = Counter((label(r["at"], freq, tz), *(r[name] for name in by), r["role"]) for r in messages)
    roles = ["user", "assistant", *(["system"] if any(r["role"] == "system" for r in messages) else [])]
    groups = sorted({tuple(r[name] for name in by) for r in messages}) if by else [()]
    return [
        (bucket, *group, role, counts[(bucket, *group, role)])
        for bucket in labels(kept, freq, tz, as_of if kept else None)
        for group in groups
        for role in roles
    ]


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    journals(), st.sampled_from(FREQS), st.sampled_from(ZONES), st.sampled_from([(), ("bot",)]), st.booleans()
)
def test_volume_is_what_plain_python_counts(rows, freq, tz, by, cut):
    as_of = max((r["at"] for r in rows), default=None) if rows and cut else None
    as_of = as_of and as_of - timedelta(hours=5)
    made = metrics.volume(arrow(rows), tz=tz, freq=freq, by=by, as_of=as_of)
    got = [
        (bucket_key(r, freq), *(r[name] for name in by), r["role"], r["messages"]) for r in made.to_pylist()
    ]
    assert got == slow_volume(rows, freq, tz, by, as_of)
    facts = metrics.facts(made)
    visible = [r for r in rows if as_of is None or r["at"] <= as_of]
    assert facts.rows == len(visible)
    assert facts.duplicates == len(visible) - len(known(rows, as_of))
    assert facts.used == len(spoken(known(rows, as_of)))


@settings(max_examples=KINDS_EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES))
def test_volume_is_one_answer_for_every_kind_of_frame(rows, tz):
    made = {kind: metrics.volume(frame, tz=tz, by="bot") for kind, frame in frames(rows).items()}
    first = records(made["pandas"])
    assert all(records(frame) == first for frame in made.values())
    assert len({str(metrics.facts(frame)) for frame in made.values()}) == 1
    assert [type(frame).__module__.split(".")[0] for frame in made.values()] == [
        "pandas",
        "polars",
        "pyarrow",
        "pyarrow",
    ]


@pytest.mark.parametrize(
    ("tz", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23.0),
        ("Europe/Berlin", "2026-10-25", 25.0),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("UTC", "2026-03-29", 24.0),
    ],
)
def test_a_day_has_its_true_length(tz, day, hours):
    noon = datetime.fromisoformat(day + "T12:00").replace(tzinfo=ZoneInfo(tz)).astimezone(UTC)
    rows = [row(at=noon, event_id=f"e{k}", user_id="u") for k in range(46)]
    (user, _) = metrics.volume(arrow(rows), tz=tz).to_pylist()
    assert (user["bucket"], user["hours"], user["messages"]) == (day, hours, 46)
    assert user["per_hour"] == pytest.approx(46 / hours)
    assert (user["end"] - user["start"]).total_seconds() == hours * 3600


def test_an_hour_that_comes_twice_is_two_buckets():
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, twice
    rows = [row(at=first, event_id="a"), row(at=first + timedelta(hours=1), event_id="b")]
    made = metrics.volume(arrow(rows), tz="Europe/Berlin", freq="h").to_pylist()
    assert [(r["bucket"], r["messages"]) for r in made if r["role"] == "user"] == [
        ("2026-10-25T02:00+02:00", 1),
        ("2026-10-25T02:00+01:00", 1),
    ]


def test_a_gap_shades_its_buckets_and_the_last_one_is_not_over():
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rows = [
        row(at=noon, event_id="a"),
        row("closed", at=noon + timedelta(hours=6), event_id="b"),
        row("opened", at=noon + timedelta(hours=18), event_id="c"),
        row(at=noon + timedelta(hours=20), event_id="d"),
    ]
    made = metrics.volume(arrow(rows)).to_pylist()
    assert [(r["gap_s"], r["unfinished"]) for r in made if r["role"] == "user"] == [
        (6 * 3600, False),
        (6 * 3600, True),
    ]
    (gap,) = metrics.facts(metrics.volume(arrow(rows))).gaps
    assert (gap.bot, gap.end - gap.start) == ("helper", timedelta(hours=12))


def test_a_sent_message_and_its_echo_are_one():
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rows = [
        row("assistant", at=noon, event_id="sent:m1", message_id="m1"),  # sent to a user: no chat yet
        row("assistant", at=noon, event_id="e1", message_id="m1", chat_id="c1"),
        row("assistant", at=noon, event_id="e2", message_id="m1", chat_id="c2"),
    ]
    made = metrics.volume(arrow(rows))
    assert [r["messages"] for r in made.to_pylist()] == [0, 2]
    assert metrics.facts(made).numbers == {"echoes": 1}


def test_without_a_bucket_there_is_one():
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rows = [row(at=noon, event_id="a"), row(at=noon + timedelta(days=400), event_id="b")]
    (user, bot) = metrics.volume(arrow(rows), freq=None).to_pylist()
    assert (user["messages"], bot["messages"], user["unfinished"]) == (2, 0, False)


# ------------------------------------------------------------------------------- hour_weekday


def slow_hours(rows, tz):
    """Mean per (weekday, hour): counts, and hours found by walking the quarters of the range."""
    zone = ZoneInfo(tz)
    kept = known(rows)
    messages = [r for r in spoken(kept) if r["role"] == "user"]
    cell = lambda at: (at.astimezone(zone).weekday(), at.astimezone(zone).hour)  # noqa: E731
    counts = Counter(cell(r["at"]) for r in messages)
    hours = Counter()
    if kept:
        at, end = min(r["at"] for r in kept), max(r["at"] for r in kept)
        at -= timedelta(minutes=at.minute % 15, seconds=at.second)
        while label(at - timedelta(minutes=15), "h", tz) == label(at, "h", tz):
            at -= timedelta(minutes=15)
        while at <= end or label(at, "h", tz) == label(end, "h", tz):
            hours[cell(at)] += 0.25
            at += timedelta(minutes=15)
    return {key: (counts[key], hours[key]) for key in [(d, h) for d in range(7) for h in range(24)]}


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(largest=10), st.sampled_from(ZONES))
def test_hours_of_the_week_are_what_plain_python_counts(rows, tz):
    made = metrics.hour_weekday(arrow(rows), tz=tz).to_pylist()
    expected = slow_hours(rows, tz)
    assert len(made) == (168 if rows else 0)
    for r in made:
        count, hours = expected[r["weekday"], r["hour"]]
        assert (r["messages"], r["hours"]) == (count, pytest.approx(hours))
        assert r["mean"] == pytest.approx(count / hours, nan_ok=True) if hours else r["mean"] != r["mean"]


def test_hours_count_users_and_no_bots():
    rows = [row("assistant", event_id="a"), row(event_id="b"), row("system", event_id="c")]
    made = metrics.hour_weekday(pandas(rows), by="bot")
    assert made["messages"].sum() == 1
    assert {r["type"] for r in rows} <= set(MESSAGES)
