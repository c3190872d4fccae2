"""Tokens, tools and errors, against plain Python."""

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
    MESSAGES,
    ZONES,
    arrow,
    frames,
    journals,
    known,
    label,
    of_turn,
    records,
    rounded,
    row,
    spoken,
    turns,
    wilson,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
GROUPINGS = st.sampled_from([(), ("bot",)])
FREQS = st.sampled_from(["D", "W"])


def inside(r, x, at, freq, tz, by):
    return label(at, freq, tz) == r["bucket"] and all(x[name] == r[name] for name in by)


def is_wilson(r, name, hits, of):
    assert rounded(r[f"{name}_rate"]) == (rounded(hits / of) if of else None)
    found = (rounded(r[f"{name}_low"]), rounded(r[f"{name}_high"]))
    assert found == pytest.approx(wilson(hits, of), abs=1e-7)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS)
def test_tokens_are_what_plain_python_adds_up(rows, tz, freq, by):
    kept = known(rows)
    for r in metrics.tokens(arrow(rows), tz=tz, freq=freq, by=by, prices=2.5).to_pylist():
        calls = [x for x in kept if x["tokens"] is not None and inside(r, x, x["at"], freq, tz, by)]
        good, bad = [x for x in calls if not x["error"]], [x for x in calls if x["error"]]
        total = sum(x["tokens"] for x in calls)
        assert (r["calls"], r["tokens"]) == (len(good), sum(x["tokens"] for x in good))
        assert (r["failed_calls"], r["failed_tokens"]) == (len(bad), sum(x["tokens"] for x in bad))
        assert r["empty_calls"] == sum(x["tokens"] == 0 for x in good)
        answers = [x for x in spoken(kept, ("assistant",)) if inside(r, x, x["at"], freq, tz, by)]
        users = {
            (x["gateway"], x["user_id"])
            for x in kept
            if x["role"] == "user" and x["type"] in MESSAGES and x["user_id"]
            if inside(r, x, x["at"], freq, tz, by)
        }
        assert rounded(r["tokens_per_answer"]) == (rounded(total / len(answers)) if answers else None)
        assert rounded(r["tokens_per_user"]) == (rounded(total / len(users)) if users else None)
        assert r["cost"] == pytest.approx(r["tokens"] * 2.5e-6)
        assert r["failed_cost"] == pytest.approx(r["failed_tokens"] * 2.5e-6)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS)
def test_tool_failures_are_what_plain_python_counts(rows, tz, freq, by):
    kept = [r for r in known(rows) if r["type"].startswith("agent.tool")]
    ident = lambda x: (x["gateway"], x["bot"], x["chat_id"], x["message_id"])  # noqa: E731
    ended = {ident(x) for x in kept if x["type"] == "agent.tool_result"}
    made = metrics.tool_failures(arrow(rows), tz=tz, freq=freq, by=by).to_pylist()
    for r in made:
        mine = [x for x in kept if x["user_name"] == r["tool"] and inside(r, x, x["at"], freq, tz, by)]
        results = [x for x in mine if x["type"] == "agent.tool_result"]
        failed = [x for x in results if x["error"]]
        assert (r["calls"], r["failed"], r["ok"]) == (
            len(results),
            len(failed),
            len(results) - len(failed),
        )
        assert r["timeouts"] == sum("timeout" in x["error"].lower() for x in failed)
        assert r["no_result"] == sum(x["type"] == "agent.tool_call" and ident(x) not in ended for x in mine)
        is_wilson(r, "failed", len(failed), len(results))
    assert sum(r["calls"] + r["no_result"] for r in made) >= len([x for x in kept if x["error"]])


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), FREQS, GROUPINGS)
def test_error_rate_is_what_plain_python_counts(rows, tz, freq, by):
    kept = known(rows)
    found = turns(kept)
    asked = [r for r in spoken(kept, ("user", "assistant")) if r["role"] == "user"]
    whole = {}  # every user message → its turn
    for t in found:
        for r in t["run"]:
            whole[id(r)] = t
    loose = 0
    for f in [r for r in kept if r["type"] == "handler.failed"]:
        mine = [r for r in asked if (r["gateway"], r["bot"]) == (f["gateway"], f["bot"])]
        named = [r for r in mine if f["reply_to"] and r["event_id"] == f["reply_to"]]
        named = named or [r for r in mine if f["reply_to"] and r["message_id"] == f["reply_to"]]
        if len({id(whole[id(r)]) for r in named}) > 1:
            return  # two chats share an id: which of them failed nobody can tell
        if named:
            whole[id(named[0])]["failed"] = True
        else:
            loose += 1
    for t in found:
        t["failed"] = t.get("failed", False) or any(r["error"] for r in t["outputs"])
    made = metrics.error_rate(arrow(rows), tz=tz, freq=freq, by=by)
    for r in made.to_pylist():
        mine = [
            t
            for t in found
            if label(t["asked"], freq, tz) == r["bucket"] and all(of_turn(t, n) == r[n] for n in by)
        ]
        handled = [t for t in mine if t["failed"] or t["answer"]]
        failed = sum(t["failed"] for t in mine)
        assert (r["handled"], r["failed"]) == (len(handled), failed)
        is_wilson(r, "failed", failed, len(handled))
    assert metrics.facts(made).numbers["loose"] >= loose


@settings(max_examples=KINDS_EXAMPLES, deadline=None)
@given(journals())
def test_usage_is_the_same_in_every_kind_of_frame(rows):
    for metric, options in (
        (metrics.tokens, {"by": "bot"}),
        (metrics.tool_failures, {}),
        (metrics.error_rate, {}),
        (metrics.error_rate, {"split": "error"}),
    ):
        made = [records(metric(frame, tz="Europe/Berlin", **options)) for frame in frames(rows).values()]
        assert all(one == made[0] for one in made)


def test_a_price_has_a_date_and_an_unknown_one_is_not_zero():
    rows = [row("assistant", at=NOON + timedelta(days=d), event_id=f"e{d}", tokens=1000) for d in range(3)]
    frame = arrow(rows).to_pandas()
    frame["model"] = ["big", "big", "small"]
    prices = {"big": [(NOON + timedelta(hours=1), 10.0), (NOON, 20.0)]}
    made = metrics.tokens(frame, by="model", freq=None, prices=prices)
    big, small = made.to_dict("records")
    assert big["cost"] == pytest.approx(0.02 + 0.01)
    assert small["cost"] != small["cost"]
    assert (big["unpriced"], small["unpriced"]) == (0, 1)
    assert metrics.facts(made).notes == ("1 calls without a price",)


def test_prices_by_model_need_the_model():
    with pytest.raises(ConfigError, match="'model'") as caught:
        metrics.tokens(arrow([]), prices={"big": 1.0})
    assert "monitoring" in caught.value.hint


def test_a_cancelled_tool_has_not_failed():
    rows = [
        row("result", at=NOON, event_id="a", user_name="search", error="Cancelled by the user"),
        row("result", at=NOON, event_id="b", user_name="search"),
    ]
    (made,) = metrics.tool_failures(arrow(rows)).to_pylist()
    assert (made["calls"], made["failed"], made["cancelled"]) == (1, 0, 1)


def test_errors_by_handler_and_by_kind():
    rows = [
        row(at=NOON, event_id="q", message_id="m", chat_id="c", user_id="u"),
        row("failed", at=NOON, event_id="f", reply_to="q", text="hello", error="ValueError: no\nmore"),
        row("failed", at=NOON, event_id="g", reply_to="q", text="bye", error="ValueError: no"),
        row("failed", at=NOON, event_id="h", reply_to="elsewhere", text="bye", error=""),
    ]
    by_handler = metrics.error_rate(arrow(rows), split="handler").to_pylist()
    assert [(r["handler"], r["failed"], r["handled"]) for r in by_handler] == [
        ("bye", 1, 1),
        ("hello", 1, 1),
    ]
    made = metrics.error_rate(arrow(rows), split="error")
    assert [(r["error"], r["failed"]) for r in made.to_pylist()] == [("ValueError", 1)]
    assert metrics.facts(made).notes == ("1 errors belong to no turn",)
    with pytest.raises(ConfigError, match="split"):
        metrics.error_rate(arrow(rows), split="colour")
