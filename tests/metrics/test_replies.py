"""Latency and what else there is to say of answers, against plain Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook import metrics
from botbook._errors import ConfigError
from tests.metrics.reference import (
    EXAMPLES,
    KINDS_EXAMPLES,
    ZONES,
    arrow,
    frames,
    journals,
    known,
    label,
    labels,
    of_turn,
    percentile,
    records,
    rounded,
    row,
    turns,
    wilson,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
GROUPINGS = st.sampled_from([(), ("bot",), ("bot", "chat_type")])


def ask(second, **values):
    return row(at=NOON + timedelta(seconds=second), **{"chat_id": "c", "user_id": "u", **values})


def answer(second, **values):
    return row("assistant", at=NOON + timedelta(seconds=second), **{"chat_id": "c", **values})


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    journals(),
    st.sampled_from(ZONES),
    st.sampled_from(["h", "D", "W"]),
    GROUPINGS,
    st.sampled_from([60, 1800.0]),
)
def test_latency_is_what_plain_python_measures(rows, tz, freq, by, idle):
    kept = known(rows)
    found = turns(kept, idle)
    made = metrics.response_latency(arrow(rows), tz=tz, freq=freq, by=by, idle=idle)
    groups = sorted({tuple(of_turn(t, name) for name in by) for t in found}) if by else [()]
    assert len(made) == len(labels(kept, freq, tz)) * len(groups) * 2
    for r in made.to_pylist():
        bucket = (
            r["bucket"]
            if freq != "h"
            else (r["bucket"][:13], datetime.fromisoformat(r["bucket"]).utcoffset())
        )
        mine = [
            t
            for t in found
            if label(t["asked"], freq, tz) == bucket and all(of_turn(t, name) == r[name] for name in by)
        ]
        waits = [t[r["kind"]] for t in mine if t["answer"]]
        timed = [wait for wait in waits if wait >= 0]
        assert (r["n"], r["negative"]) == (len(timed), len(waits) - len(timed))
        assert (r["user_turns"], r["unanswered"]) == (len(mine), len(mine) - len(waits))
        for percent in (5, 25, 50, 75, 95, 99):
            assert rounded(r[f"p{percent:02d}_s"]) == pytest.approx(percentile(timed, percent))
        assert (rounded(r["unanswered_low"]), rounded(r["unanswered_high"])) == pytest.approx(
            wilson(len(mine) - len(waits), len(mine)), abs=1e-7
        )
    facts = metrics.facts(made)
    assert facts.numbers["turns"] == len(found)
    assert facts.numbers["unanswered"] == sum(t["answer"] is None for t in found)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), GROUPINGS)
def test_the_curve_is_the_share_of_turns_within_a_time(rows, by):
    found = turns(known(rows))
    made = metrics.response_latency(arrow(rows), by=by, ecdf=True).to_pylist()
    curves = {}
    for r in made:
        curves.setdefault((tuple(r[name] for name in by), r["kind"]), []).append((r["latency_s"], r["share"]))
    for (group, kind), steps in curves.items():
        mine = [t for t in found if tuple(of_turn(t, name) for name in by) == group and t["answer"]]
        timed = sorted(t[kind] for t in mine if t[kind] >= 0)
        assert [value for value, _ in steps] == pytest.approx(timed)
        assert [share for _, share in steps] == pytest.approx(
            [(k + 1) / len(timed) for k in range(len(timed))]
        )


def test_a_long_curve_is_cut_and_keeps_its_end():
    rows = [ask(k * 100, event_id=f"q{k}", message_id=f"q{k}") for k in range(1500)]
    rows += [answer(k * 100 + 1 + k / 100, event_id=f"a{k}", reply_to=f"q{k}") for k in range(1500)]
    made = metrics.response_latency(arrow(rows), ecdf=True).to_pylist()
    first = [r for r in made if r["kind"] == "first"]
    assert len(first) == 1000
    assert (first[-1]["share"], first[-1]["latency_s"]) == (1.0, pytest.approx(1 + 14.99))


@settings(max_examples=KINDS_EXAMPLES, deadline=None)
@given(journals())
def test_latency_is_the_same_in_every_kind_of_frame(rows):
    made = [
        records(metrics.response_latency(frame, tz="Europe/Berlin", by="bot"))
        for frame in frames(rows).values()
    ]
    assert all(one == made[0] for one in made)


def test_an_answer_counts_from_the_message_it_names():
    rows = [
        ask(0, event_id="q1", message_id="q1"),
        ask(1, event_id="q2", message_id="q2"),
        answer(2, event_id="a1", reply_to="q1"),
        answer(9, event_id="a2", reply_to="q2"),
    ]
    first, _ = metrics.response_latency(arrow(rows), freq=None).to_pylist()
    assert (first["n"], first["user_turns"], first["p50_s"]) == (2, 2, 5.0)


def test_an_answer_that_names_nothing_counts_from_the_last_message():
    rows = [ask(0, event_id="q1"), ask(5, event_id="q2"), answer(7, event_id="a1"), answer(60, event_id="a2")]
    first, complete = metrics.response_latency(arrow(rows), freq=None).to_pylist()
    assert (first["user_turns"], first["p50_s"]) == (1, 2.0)
    assert complete["p50_s"] == 2.0, "a later message is not the end of the same answer"


def test_a_streamed_answer_has_two_times():
    pieces = [
        answer(k, type="message.delta", event_id=f"d{k}", message_id="a", reply_to="q") for k in (2, 3, 4)
    ]
    rows = [ask(0, event_id="q", message_id="q"), *pieces, answer(5, event_id="a", message_id="a")]
    first, complete = metrics.response_latency(arrow(rows), freq=None).to_pylist()
    assert (first["p50_s"], complete["p50_s"]) == (2.0, 5.0)


def test_two_clocks_are_set_aside_and_said():
    rows = [ask(10, event_id="q", message_id="q"), answer(5, event_id="a", reply_to="q")]
    made = metrics.response_latency(arrow(rows), freq=None)
    first, _ = made.to_pylist()
    assert (first["n"], first["negative"], first["unanswered"]) == (0, 1, 0)
    assert first["p50_s"] != first["p50_s"]
    assert "1 with a negative time set aside" in metrics.facts(made).notes


@pytest.mark.parametrize("idle", [0, -1, float("nan"), float("inf"), True, "1h"])
def test_idle_is_a_number_of_seconds(idle):
    with pytest.raises(ConfigError, match="idle"):
        metrics.response_latency(arrow([]), idle=idle)
