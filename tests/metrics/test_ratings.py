"""Ratings, against plain Python."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

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
    records,
    rounded,
    row,
    spoken,
    wilson,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
GROUPINGS = st.sampled_from([(), ("bot",), ("chat_type",)])
FREQS = st.sampled_from(["D", "W"])
STATE = {1: "like", 2: "dislike", 3: "none"}


def slow_ratings(rows):
    """Feedback id → its events in order, and the answer it is about."""
    order = {id(r): k for k, r in enumerate(rows)}
    answers = sorted(spoken(rows, ("assistant",)), key=lambda r: (r["at"], order[id(r)]))
    found = {}
    for r in sorted(rows, key=lambda r: (r["at"], order[id(r)])):
        if r["type"] == "feedback.received" and r["feedback_type"] in (1, 2, 3):
            who = (r["feedback_id"],) if r["feedback_id"] else (r["chat_id"], r["user_id"], r["message_id"])
            found.setdefault((r["gateway"], r["bot"], *who), []).append(r)
    made = []
    for clicks in found.values():
        last = clicks[-1]
        same = [
            a
            for a in answers
            if last["message_id"] and all(a[name] == last[name] for name in ("gateway", "bot", "message_id"))
        ]
        answer = next((a for a in same if a["chat_id"] == last["chat_id"]), same[0] if same else None)
        made.append(
            {
                "clicks": clicks,
                "last": last,
                "state": STATE[last["feedback_type"]],
                "answer": answer,
                "booked": answer["at"] if answer else clicks[0]["at"],
            }
        )
    return made


def value_of(rating, name):
    return (rating["answer"][name] if rating["answer"] else "") or rating["last"][name]


def inside(r, rating, freq, tz, by):
    return label(rating["booked"], freq, tz) == r["bucket"] and all(
        value_of(rating, name) == r[name] for name in by
    )


def is_wilson(r, name, hits, of):
    assert rounded(r[f"{name}_rate"]) == (rounded(hits / of) if of else None)
    found = (rounded(r[f"{name}_low"]), rounded(r[f"{name}_high"]))
    assert found == pytest.approx(wilson(hits, of), abs=1e-7)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.integers(0, 40))
def test_the_last_event_decides_and_as_of_goes_back(rows, days):
    as_of = (min(r["at"] for r in rows) if rows else NOON) + timedelta(days=days)
    made = metrics.feedback_state(arrow(rows), as_of=as_of).to_pylist()
    expected = Counter(
        (
            x["last"]["gateway"],
            x["last"]["bot"],
            x["last"]["feedback_id"],
            x["state"],
            len(x["clicks"]),
            x["answer"]["at"] if x["answer"] else None,
            x["clicks"][0]["at"],
            x["last"]["at"],
            tuple(x["last"]["feedback_reasons"]),
        )
        for x in slow_ratings(known(rows, as_of))
    )
    names = ("gateway", "bot", "feedback_id", "state", "events", "answered_at", "first_at", "last_at")
    assert Counter((*(r[name] for name in names), tuple(r["reasons"])) for r in made) == expected


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS, st.sampled_from([0, 2]))
def test_like_rates_are_what_plain_python_counts(rows, tz, freq, by, min_n):
    ratings = slow_ratings(known(rows))
    made = metrics.like_rate(arrow(rows), tz=tz, freq=freq, by=by, min_n=min_n).to_pylist()
    for r in made:
        states = [x["state"] for x in ratings if inside(r, x, freq, tz, by)]
        likes, dislikes = states.count("like"), states.count("dislike")
        assert (r["n"], r["likes"], r["dislikes"]) == (likes + dislikes, likes, dislikes)
        assert r["hidden"] == (0 < likes + dislikes < min_n)
        is_wilson(r, "like", *((0, 0) if r["hidden"] else (likes, likes + dislikes)))
    assert sum(r["n"] for r in made) == sum(x["state"] != "none" for x in ratings)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS)
def test_coverage_is_what_plain_python_counts(rows, tz, freq, by):
    kept = known(rows)
    ratings = [x for x in slow_ratings(kept) if x["answer"]]
    answers = [a for a in spoken(kept, ("assistant",)) if a["message_id"]]
    made = metrics.feedback_coverage(arrow(rows), tz=tz, freq=freq, by=by).to_pylist()
    for r in made:
        of = sum(
            label(a["at"], freq, tz) == r["bucket"] and all(a[name] == r[name] for name in by)
            for a in answers
        )
        states = [x["state"] for x in ratings if inside(r, x, freq, tz, by)]
        rated, disliked = len(states) - states.count("none"), states.count("dislike")
        assert (r["answers"], r["rated"], r["dislikes"]) == (of, rated, disliked)
        assert rounded(r["dislikes_per_1000"]) == (rounded(1000 * disliked / of) if of else None)
        if rated <= of:
            is_wilson(r, "coverage", rated, of)
        else:
            assert r["coverage_low"] != r["coverage_low"]
    assert sum(r["answers"] for r in made) == len(answers)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), GROUPINGS)
def test_changes_and_reasons_are_what_plain_python_counts(rows, by):
    ratings = slow_ratings(known(rows))
    for r in metrics.feedback_changes(arrow(rows), by=by).to_pylist():
        mine = [x for x in ratings if all(value_of(x, name) == r[name] for name in by)]
        steps = Counter()
        for x in mine:
            states = ["none", *(STATE[click["feedback_type"]] for click in x["clicks"])]
            steps.update(pairwise(states))
        assert r["changes"] == steps[r["before"], r["after"]]
        gone = sum(x["last"]["feedback_type"] == 3 for x in mine)
        assert (r["ids"], r["cancelled"]) == (len(mine), gone)
        is_wilson(r, "cancelled", gone, len(mine))
    for r in metrics.dislike_reasons(arrow(rows), by=by).to_pylist():
        mine = [
            x for x in ratings if x["state"] == "dislike" and all(value_of(x, name) == r[name] for name in by)
        ]
        named = sum(r["reason"] in x["last"]["feedback_reasons"] for x in mine)
        assert (r["named"], r["disliked"]) == (named, len(mine))
        is_wilson(r, "named", named, len(mine))


@settings(max_examples=KINDS_EXAMPLES, deadline=None)
@given(journals())
def test_ratings_are_the_same_in_every_kind_of_frame(rows):
    for metric in (
        metrics.like_rate,
        metrics.feedback_coverage,
        metrics.feedback_changes,
        metrics.dislike_reasons,
    ):
        made = [records(metric(frame, by="bot")) for frame in frames(rows).values()]
        assert all(one == made[0] for one in made)
    for frame in frames(rows).values():
        assert len(metrics.feedback_state(frame)) == len(slow_ratings(known(rows)))


def click(kind, minute, **values):
    return row(
        "feedback",
        at=NOON + timedelta(minutes=minute),
        **{
            "event_id": f"f{minute}",
            "feedback_id": "f",
            "feedback_type": kind,
            "message_id": "a",
            **values,
        },
    )


def test_like_cancel_dislike_is_one_dislike():
    rows = [
        row("assistant", at=NOON - timedelta(days=1), event_id="a", message_id="a"),
        click(1, 0),
        click(3, 1),
        click(2, 2, feedback_reasons=["slow", "slow", " "]),
        click(2, 2),  # delivered again
    ]
    made = metrics.like_rate(arrow(rows), freq="D", min_n=0).to_pylist()
    assert [(r["bucket"], r["likes"], r["dislikes"]) for r in made] == [
        ("2026-01-04", 0, 1),
        ("2026-01-05", 0, 0),
    ], "a late click counts on the day of its answer"
    before = metrics.like_rate(arrow(rows), min_n=0, as_of=NOON).to_pylist()
    assert [(r["likes"], r["dislikes"]) for r in before] == [(1, 0)]
    taken = metrics.like_rate(arrow(rows), min_n=0, as_of=NOON + timedelta(minutes=1))
    assert [r["n"] for r in taken.to_pylist()] == [0]
    assert metrics.facts(taken).numbers["taken_back"] == 1
    (reason,) = metrics.dislike_reasons(arrow(rows)).to_pylist()
    assert (reason["reason"], reason["named"], reason["disliked"]) == ("slow", 1, 1)


def test_few_ratings_are_hidden_unless_asked_for():
    rows = [click(1, k, event_id=f"e{k}", feedback_id=f"f{k}") for k in range(29)]
    hidden = metrics.like_rate(arrow(rows))
    assert [(r["n"], r["like_rate"] == r["like_rate"]) for r in hidden.to_pylist()] == [(29, False)]
    assert metrics.facts(hidden).notes == ("1 rates of fewer than 30 ratings hidden",)
    assert metrics.like_rate(arrow(rows), min_n=0).to_pylist()[0]["like_rate"] == 1.0
    assert metrics.like_rate(arrow([*rows, click(1, 40, feedback_id="z")])).to_pylist()[0]["n"] == 30


@pytest.mark.parametrize("min_n", [-1, 1.5, True, "30"])
def test_min_n_is_a_whole_number(min_n):
    with pytest.raises(ConfigError, match="min_n"):
        metrics.like_rate(arrow([]), min_n=min_n)


def test_reasons_that_are_no_list_are_an_error():
    frame = arrow([click(2, 0)]).to_pandas()
    frame["feedback_reasons"] = [7]
    with pytest.raises(ConfigError, match="feedback_reasons"):
        metrics.dislike_reasons(frame)
