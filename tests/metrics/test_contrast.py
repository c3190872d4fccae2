"""Arms, terms and connections, against plain Python and published numbers."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook import metrics
from botbook._errors import ConfigError
from botbook.metrics._contrast import Sample, contrast_of_percentile, contrast_of_shares, holm
from botbook.metrics.contrast import cut
from tests.metrics.reference import (
    EXAMPLES,
    KINDS_EXAMPLES,
    arrow,
    frames,
    journals,
    known,
    percentile,
    records,
    rounded,
    row,
    spoken,
    turns,
)

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def rating(k, kind, **values):
    return row(
        "feedback",
        at=NOON + timedelta(minutes=k),
        **{"event_id": f"f{k}", "feedback_id": f"f{k}", "feedback_type": kind, "user_id": f"u{k}", **values},
    )


@pytest.mark.parametrize(
    ("arm", "base", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_newcombe_is_as_published(arm, base, low, high):
    made = contrast_of_shares(arm, base)
    assert (made.low, made.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_holm_is_as_published():
    # S. Holm, Scandinavian Journal of Statistics 6 (1979): stepwise, never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert math.isnan(holm([float("nan"), 0.02])[0])
    assert holm([float("nan"), 0.02])[1] == 0.02


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), min_size=1, max_size=12),
    st.sampled_from([50.0, 95.0]),
    st.integers(0, 5),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_the_bootstrap_draws_users_with_all_their_turns(arm, base, percent, seed):
    samples = [
        Sample(values=np.array([float(v) for v, _ in side]), users=np.array([u for _, u in side]))
        for side in (arm, base)
    ]
    made = contrast_of_percentile(*samples, percent, draws=40, rng=np.random.default_rng(seed))
    users = sorted({u for _, u in [*arm, *base]})
    rng, found = np.random.default_rng(seed), []
    for _ in range(40 if len(users) > 1 else 0):
        drawn = [users[k] for k in rng.integers(0, len(users), len(users))]
        sides = [[v for u in drawn for v, owner in side if owner == u] for side in (arm, base)]
        if all(sides):
            found.append(percentile(sides[0], percent) - percentile(sides[1], percent))
    assert made.difference == pytest.approx(
        percentile([v for v, _ in arm], percent) - percentile([v for v, _ in base], percent)
    )
    assert (rounded(made.low), rounded(made.high)) == (
        pytest.approx((percentile(found, 2.5), percentile(found, 97.5)))
    )


def test_arms_are_compared_with_the_largest():
    likes = {"a": (40, 60), "b": (30, 31), "c": (1, 2)}
    rows, k = [], 0
    for bot, (hits, of) in likes.items():
        for n in range(of):
            rows.append(rating(k := k + 1, 1 if n < hits else 2, bot=bot))
    made = metrics.compare(arrow(rows)).to_pylist()
    assert [(r["arm"], r["base"], r["n"], r["base_n"]) for r in made] == [
        ("b", "a", 31, 60),
        ("c", "a", 2, 60),
    ]
    one = contrast_of_shares((30, 31), (40, 60))
    assert (made[0]["low"], made[0]["high"]) == (one.low, one.high)
    assert made[0]["p_holm"] == made[0]["p"], "the arm that is too small does not count"
    assert made[1]["difference"] != made[1]["difference"]
    shown = metrics.compare(arrow(rows), base="b", min_n=0)
    assert [(r["arm"], r["value"]) for r in shown.to_pylist()] == [("a", pytest.approx(2 / 3)), ("c", 0.5)]
    assert metrics.facts(shown).notes == ("observed difference, not an effect",)
    chance = metrics.facts(metrics.compare(arrow(rows), randomized=True))
    assert chance.notes == ("users assigned by chance",)


def test_latency_arms_have_two_percentiles():
    rows = []
    for k in range(40):
        at = NOON + timedelta(hours=k)
        who = {"bot": "ab"[k % 2], "chat_id": f"c{k % 2}"}
        rows.append(row(at=at, event_id=f"q{k}", user_id=f"u{k % 7}", **who))
        rows.append(row("assistant", at=at + timedelta(seconds=1 + k % 2), event_id=f"a{k}", **who))
    made = metrics.compare(arrow(rows), measure="response_latency", min_n=20, draws=50).to_pylist()
    assert [(r["arm"], r["measure"], r["difference"]) for r in made] == [
        ("b", "p50_s", 1.0),
        ("b", "p95_s", 1.0),
    ]
    assert [(r["low"], r["high"], r["users"]) for r in made] == [(1.0, 1.0, 7)] * 2
    again = metrics.compare(arrow(rows), measure="response_latency", min_n=20, draws=50).to_pylist()
    assert again == made, "the same seed gives the same interval"


def test_compare_checks_its_parameters():
    with pytest.raises(ConfigError, match="no measure"):
        metrics.compare(arrow([]), measure="beauty")
    with pytest.raises(ConfigError, match="no arm 'z'") as caught:
        metrics.compare(arrow([rating(1, 1)]), base="z")
    assert "helper" in caught.value.hint
    assert len(metrics.compare(arrow([]))) == 0


# -------------------------------------------------------------------------------------- terms


def seen_in(text):
    """The terms of the texts that the journals hold."""
    return set(re.findall(r"[a-z]{2,}", text)) | ({"你好", "好世", "世界"} if "你好" in text else set())


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from([1, 2]))
def test_terms_are_what_plain_python_counts(rows, min_n):
    kept = known(rows)
    asked = [r for r in spoken(kept, ("user", "assistant")) if r["role"] == "user" and r["user_id"]]
    last = {}
    for r in sorted(enumerate(kept), key=lambda pair: (pair[1]["at"], pair[0])):
        if r[1]["type"] == "feedback.received":
            last[(r[1]["gateway"], r[1]["bot"], r[1]["feedback_id"])] = r[1]
    states = {}
    for (gateway, bot, _), r in last.items():
        if r["feedback_type"] in (1, 2):
            states.setdefault((gateway, bot, r["message_id"]), set()).add(r["feedback_type"])
    if any(len(state) > 1 for state in states.values()):
        return  # two users rated one answer differently: either may win
    users, said = {}, {}
    for r in asked:
        for term in seen_in(r["text"]):
            users.setdefault(term, set()).add((r["gateway"], r["user_id"]))
            said[term] = said.get(term, 0) + 1
    rated = {1: {}, 2: {}}
    for t in turns(kept):
        found = {s for a in t["outputs"] for s in states.get((a["gateway"], a["bot"], a["message_id"]), ())}
        for state in found if t["row"]["user_id"] else ():
            for term in seen_in(t["row"]["text"]):
                rated[state][term] = rated[state].get(term, 0) + 1
    made = metrics.terms(arrow(rows), min_n=min_n).to_pylist()
    assert {(r["term"], r["users"], r["messages"], r["liked"], r["disliked"]) for r in made} == {
        (term, len(who), said[term], rated[1].get(term, 0), rated[2].get(term, 0))
        for term, who in users.items()
        if len(who) >= min_n
    }
    assert [r["users"] for r in made] == sorted((r["users"] for r in made), reverse=True)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("I'd LIKE 2 refunds", ["i'd", "like", "refunds"]),
        ("re-send order42, 42!", ["re-send", "order42"]),
        ("你好世界", ["你好", "好世", "世界"]),
        ("好", ["好"]),
        ("请问 iPhone 价格", ["请问", "iphone", "价格"]),
        ("カタカナ", ["カタ", "タカ", "カナ"]),
        ("안녕 세상", ["안녕", "세상"]),
        ("größe straße", ["grösse", "strasse"]),
        ("🙂 ... 12 34", []),
        ("", []),
    ],
)
def test_text_is_cut_into_terms(text, terms):
    assert list(cut(text)) == terms


@given(st.text(max_size=60))
def test_any_text_can_be_cut(text):
    assert all(term and term == term.casefold() for term in cut(text))


def test_a_word_cutter_may_be_given_and_bots_do_not_talk():
    rows = [
        row(at=NOON, event_id="a", user_id="u", chat_id="c", text="x,y"),
        row("assistant", at=NOON, event_id="b", user_id="bot", chat_id="c", text="z"),
    ]
    made = metrics.terms(arrow(rows), min_n=1, words=lambda text: text.split(",")).to_pylist()
    assert [r["term"] for r in made] == ["x", "y"]
    assert made[0]["log_odds"] != made[0]["log_odds"], "nobody rated"


def test_log_odds_lean_to_where_the_word_is():
    rows = []
    for k in range(12):
        at, good = NOON + timedelta(hours=k), k % 2
        rows.append(
            row(at=at, event_id=f"q{k}", user_id=f"u{k}", chat_id="c", text="thanks" if good else "refund")
        )
        rows.append(row("assistant", at=at, event_id=f"a{k}", message_id=f"a{k}", chat_id="c"))
        rows.append(rating(k, 1 if good else 2, message_id=f"a{k}", chat_id="c"))
    thanks, refund = metrics.terms(arrow(rows)).to_pylist()[::-1]
    assert (thanks["term"], thanks["liked"], thanks["disliked"]) == ("thanks", 6, 0)
    assert thanks["log_odds"] > 0 > refund["log_odds"]
    # By hand: prior 10 * 6/12 = 5; log(11 / (16 - 11)) - log(5 / (16 - 5))
    assert thanks["log_odds"] == pytest.approx(2 * math.log(11 / 5))
    assert thanks["z"] == pytest.approx(2 * math.log(11 / 5) / math.sqrt(1 / 11 + 1 / 5))


def test_the_only_word_leans_nowhere():
    rows = []
    for k in range(2):
        at = NOON + timedelta(hours=k)
        rows.append(row(at=at, event_id=f"q{k}", user_id=f"u{k}", chat_id="c", text="refund"))
        rows.append(row("assistant", at=at, event_id=f"a{k}", message_id=f"a{k}", chat_id="c"))
        rows.append(rating(k, 1 + k, message_id=f"a{k}", chat_id="c"))
    (made,) = metrics.terms(arrow(rows), min_n=1).to_pylist()
    assert (made["liked"], made["disliked"], made["log_odds"], made["z"]) == (1, 1, 0.0, 0.0)


@pytest.mark.parametrize("min_n", [0, -1, 2.5, True])
def test_terms_need_a_number_of_users(min_n):
    with pytest.raises(ConfigError, match="min_n"):
        metrics.terms(arrow([]), min_n=min_n)


# -------------------------------------------------------------------------------- connections


def test_a_connection_is_its_window_less_its_gaps():
    hour = lambda h: NOON + timedelta(hours=h)  # noqa: E731
    rows = [
        row("opened", at=hour(0), event_id="o1"),
        row("closed", at=hour(2), event_id="c1"),
        row(at=hour(2.5), event_id="missed", user_id="u", recovered=True),
        row("opened", at=hour(3), event_id="o2"),
        row("closed", at=hour(30), event_id="c2"),
        row("opened", at=hour(34), event_id="o3"),
        row(at=hour(40), event_id="x", user_id="u"),
        row(at=hour(40), event_id="x", user_id="u"),
        row(at=hour(20), event_id="y", bot="other"),
    ]
    made = metrics.connection_health(arrow(rows))
    helper, other = made.to_pylist()
    assert (helper["window_s"], helper["connected_s"]) == (40 * 3600, 35 * 3600)
    assert helper["connected_rate"] == pytest.approx(35 / 40)
    assert (helper["reconnects"], helper["gaps"], helper["recovered_gaps"]) == (2, 2, 1)
    assert (helper["longest_gap_s"], helper["recovered"], helper["duplicates"]) == (4 * 3600, 1, 1)
    assert other["connected_rate"] != other["connected_rate"], "nobody knows"
    assert metrics.facts(made).notes == ("1 connections without connection rows",)
    daily = [r for r in metrics.connection_health(arrow(rows), freq="D").to_pylist() if r["bot"] == "helper"]
    assert [(r["window_s"], r["connected_s"]) for r in daily] == [
        (12 * 3600, 11 * 3600),
        (24 * 3600, 20 * 3600),
        (4 * 3600, 4 * 3600),
    ]
    assert [r["gaps"] for r in daily] == [1, 1, 0]


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from([None, "D"]))
def test_connections_add_up(rows, freq):
    kept = known(rows)
    made = metrics.connection_health(arrow(rows), freq=freq).to_pylist()
    for link in {(r["gateway"], r["bot"]) for r in kept}:
        mine = [r for r in made if (r["gateway"], r["bot"]) == link]
        here = [r for r in kept if (r["gateway"], r["bot"]) == link]
        first, end = min(r["at"] for r in here), max(r["at"] for r in kept)
        assert sum(r["window_s"] for r in mine) == pytest.approx((end - first).total_seconds())
        assert sum(r["events"] for r in mine) == len(here)
        opened = sum(r["type"] == "connection.opened" for r in here)
        assert sum(r["reconnects"] for r in mine) == max(0, opened - 1)
        for r in mine:
            assert r["connected_s"] != r["connected_s"] or -1e-6 <= r["connected_s"] <= r["window_s"] + 1e-6


@settings(max_examples=KINDS_EXAMPLES, deadline=None)
@given(journals())
def test_these_are_the_same_in_every_kind_of_frame(rows):
    for metric, options in (
        (metrics.compare, {"min_n": 0}),
        (metrics.compare, {"min_n": 0, "measure": "response_latency", "draws": 20}),
        (metrics.terms, {"min_n": 1}),
        (metrics.connection_health, {}),
    ):
        made = [records(metric(frame, tz="Europe/Berlin", **options)) for frame in frames(rows).values()]
        assert all(one == made[0] for one in made)
