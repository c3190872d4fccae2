"""Sessions, what became of them, and turns that got nothing, against plain Python."""

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
    sessions,
    turns,
    wilson,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
GROUPINGS = st.sampled_from([(), ("bot",)])
FREQS = st.sampled_from(["D", "W"])
IDLES = st.sampled_from([60, 1800.0])


def ask(minute, **values):
    return row(at=NOON + timedelta(minutes=minute), **{"chat_id": "c", "user_id": "u", **values})


def answer(minute, **values):
    return row("assistant", at=NOON + timedelta(minutes=minute), **{"chat_id": "c", **values})


def end(minute):
    """Something that happened later, elsewhere."""
    return row("system", at=NOON + timedelta(minutes=minute), event_id="end", chat_id="elsewhere")


def mine(found, r, freq, tz, by):
    return [
        s
        for s in found
        if label(s["start"], freq, tz) == r["bucket"] and all(s["talk"][0][name] == r[name] for name in by)
    ]


def last_of(rows):
    return max((r["at"] for r in rows), default=None)


def is_wilson(r, name, hits, of):
    assert rounded(r[f"{name}_rate"]) == (rounded(hits / of) if of else None)
    assert (rounded(r[f"{name}_low"]), rounded(r[f"{name}_high"])) == pytest.approx(
        wilson(hits, of), abs=1e-7
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS, IDLES)
def test_first_responses_and_lengths_are_what_plain_python_measures(rows, tz, freq, by, idle):
    kept = known(rows)
    found = sessions(kept, last_of(kept), idle)
    options = {"tz": tz, "freq": freq, "by": by, "idle": idle}
    groups = len({tuple(s["talk"][0][name] for name in by) for s in found}) if by else 1
    made = metrics.first_response(arrow(rows), **options).to_pylist()
    assert len(made) == len(labels(kept, freq, tz)) * groups
    for r in made:
        waits = [s["reply"] for s in mine(found, r, freq, tz, by) if s["reply"] is not None]
        silent = [s for s in mine(found, r, freq, tz, by) if s["reply"] is None]
        assert (r["n"], r["without_reply"], r["open"]) == (
            len(waits),
            sum(s["closed"] for s in silent),
            sum(not s["closed"] for s in silent),
        )
        for percent in (50, 75, 95):
            assert rounded(r[f"p{percent}_s"]) == pytest.approx(percentile(waits, percent))
    for r in metrics.conversation_length(arrow(rows), **options).to_pylist():
        closed = [s for s in mine(found, r, freq, tz, by) if s["closed"]]
        assert (r["n"], r["open"]) == (len(closed), len(mine(found, r, freq, tz, by)) - len(closed))
        measured = {
            "turns_p{}": [s["turns"] for s in closed],
            "messages_p{}": [len(s["talk"]) for s in closed],
            "length_p{}_s": [(s["end"] - s["start"]).total_seconds() for s in closed],
        }
        for name, values in measured.items():
            for percent in (50, 95):
                assert rounded(r[name.format(percent)]) == pytest.approx(percentile(values, percent))


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS, IDLES)
def test_containment_is_what_plain_python_counts(rows, tz, freq, by, idle):
    kept = known(rows)
    as_of = last_of(kept)
    found = sessions(kept, as_of, idle)
    handoffs = [r for r in kept if r["type"] == "agent.tool_call"]
    made = metrics.containment(
        arrow(rows), tz=tz, freq=freq, by=by, idle=idle, handoff="agent.tool_call"
    ).to_pylist()
    for s in found:
        first = s["talk"][0]
        where = (first["gateway"], first["bot"], first["chat_id"])
        s["handed"] = any(
            (h["gateway"], h["bot"], h["chat_id"]) == where
            and s["start"] <= h["at"] <= s["end"] + timedelta(seconds=idle)
            for h in handoffs
        )
        users = {(r["gateway"], r["bot"], r["user_id"]) for r in s["talk"] if r["role"] == "user"}
        s["back"] = any(
            (r["gateway"], r["bot"], r["user_id"]) in users and r["user_id"]
            for other in found
            if other is not s
            for r in other["talk"]
            if r["role"] == "user" and 0 < (r["at"] - s["end"]).total_seconds() <= 86_400
        )
    for r in made:
        closed = [s for s in mine(found, r, freq, tz, by) if s["closed"]]
        assert (r["sessions"], r["open"]) == (len(closed), len(mine(found, r, freq, tz, by)) - len(closed))
        counts = {
            "handed_off": sum(s["handed"] for s in closed),
            "contained": sum(not s["handed"] for s in closed),
            "abandoned": sum(not s["handed"] and not s["answered"] for s in closed),
            "resolved": sum(not s["handed"] and s["answered"] for s in closed),
        }
        for name, hits in counts.items():
            assert r[name] == hits
            is_wilson(r, name, hits, len(closed))
        sure = [s for s in closed if (as_of - s["end"]).total_seconds() > 86_400]
        strict = sum(not s["handed"] and not s["back"] for s in sure)
        assert (r["strict"], r["strict_sessions"]) == (strict, len(sure))
        is_wilson(r, "strict", strict, len(sure))


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS, st.sampled_from([5.0, 3600]))
def test_unanswered_is_what_plain_python_counts(rows, tz, freq, by, within):
    kept = known(rows)
    found, as_of = turns(kept), last_of(kept)
    for r in metrics.unanswered(arrow(rows), tz=tz, freq=freq, by=by, within=within).to_pylist():
        mine = [
            t
            for t in found
            if label(t["asked"], freq, tz) == r["bucket"] and all(of_turn(t, name) == r[name] for name in by)
        ]
        decided = [t for t in mine if (as_of - t["asked"]).total_seconds() >= within]
        missed = sum(t["first"] is None or t["first"] > within for t in decided)
        assert (r["user_turns"], r["unanswered"], r["missed"]) == (len(decided), missed, missed)
        assert (r["open"], r["fallback"]) == (len(mine) - len(decided), 0)
        is_wilson(r, "missed", missed, len(decided))


@settings(max_examples=KINDS_EXAMPLES, deadline=None)
@given(journals())
def test_sessions_are_the_same_in_every_kind_of_frame(rows):
    for metric, options in (
        (metrics.first_response, {}),
        (metrics.first_response, {"histogram": "log"}),
        (metrics.conversation_length, {"by": "bot"}),
        (metrics.conversation_length, {"histogram": True}),
        (metrics.containment, {}),
        (metrics.unanswered, {}),
    ):
        made = [records(metric(frame, tz="Europe/Berlin", **options)) for frame in frames(rows).values()]
        assert all(one == made[0] for one in made)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals())
def test_histograms_hold_every_session_once(rows):
    kept = known(rows)
    found = sessions(kept, last_of(kept))
    for shape in ("log", "bands"):
        made = metrics.first_response(arrow(rows), histogram=shape).to_pylist()
        waits = [s["reply"] for s in found if s["reply"] is not None]
        assert sum(r["n"] for r in made) == len(waits)
        for r in made:
            assert r["n"] == sum(r["low_s"] <= wait < r["high_s"] for wait in waits)
            assert (r["total"], rounded(r["p50_s"])) == (len(waits), percentile(waits, 50))
    made = metrics.conversation_length(arrow(rows), histogram=True).to_pylist()
    closed = [s for s in found if s["closed"]]
    for measure in {r["measure"] for r in made}:
        assert sum(r["n"] for r in made if r["measure"] == measure) == len(closed)


def test_a_session_that_is_open_is_left_out_and_said():
    made = metrics.conversation_length(arrow([ask(0, event_id="a"), end(30)]))
    assert [(r["n"], r["open"]) for r in made.to_pylist()] == [(0, 1)], "30 minutes are not over yet"
    assert metrics.facts(made).notes == ("1 open session left out",)
    made = metrics.conversation_length(arrow([ask(0, event_id="a"), end(31)]))
    assert [(r["n"], r["length_p50_s"]) for r in made.to_pylist()] == [(1, 0.0)]


def test_outcomes_belong_to_the_start_of_the_session():
    rows = [
        ask(-10, event_id="a"),
        answer(-9, event_id="b"),
        row("system", at=NOON + timedelta(minutes=5), type="chat.handoff", chat_id="c", event_id="h"),
        row("system", at=NOON + timedelta(minutes=6), type="chat.handoff", chat_id="c", event_id="h2"),
        end(120),
    ]
    made = metrics.containment(arrow(rows), freq="h").to_pylist()
    assert [(r["sessions"], r["handed_off"]) for r in made] == [(1, 1), (0, 0), (0, 0), (0, 0)]
    assert made[1]["contained_rate"] != made[1]["contained_rate"], "nothing to share is NaN"


def test_without_hand_offs_the_frame_says_so():
    made = metrics.containment(arrow([ask(0, event_id="a"), end(60)]))
    assert "no hand-off events here" in metrics.facts(made).notes[0]
    assert made.to_pylist()[0]["abandoned"] == 1


def test_a_fallback_is_no_answer():
    rows = [ask(0, event_id="a"), answer(1, event_id="b"), ask(10, event_id="c"), answer(11, event_id="d")]
    frame = arrow([*rows, end(60)]).to_pandas()
    frame["fallback"] = [False, True, False, False, False]
    (made,) = metrics.unanswered(frame).to_dict("records")
    assert (made["user_turns"], made["fallback"], made["missed_rate"]) == (2, 1, 0.5)


def test_a_chat_without_an_id_goes_by_its_user():
    rows = [ask(0, event_id="a", chat_id=""), ask(1, event_id="b", chat_id="", user_id="v"), end(60)]
    assert metrics.conversation_length(arrow(rows)).to_pylist()[0]["n"] == 2


@pytest.mark.parametrize("histogram", ["linear", "x"])
def test_an_unknown_histogram_is_an_error(histogram):
    with pytest.raises(ConfigError, match="no histogram"):
        metrics.first_response(arrow([]), histogram=histogram)


def test_within_is_a_number_of_seconds():
    with pytest.raises(ConfigError, match="within"):
        metrics.unanswered(arrow([]), within=-1)
