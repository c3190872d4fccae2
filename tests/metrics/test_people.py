"""Users, growth and retention, against plain Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

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
    labels,
    records,
    rounded,
    row,
    wilson,
)

GROUPINGS = st.sampled_from([(), ("bot",)])
START = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday


def acts(rows):
    """(user, row, whether it is a message) of everything that users did."""
    return [
        ((r["gateway"], r["user_id"]), r, r["type"] in MESSAGES and r["role"] == "user")
        for r in rows
        if r["user_id"] and (r["role"] == "user" or r["type"] == "feedback.received")
    ]


def day(at, tz):
    return at.astimezone(ZoneInfo(tz)).date()


def grouped(found, by):
    groups = {}
    for user, r, wrote in found:
        groups.setdefault(tuple(r[name] for name in by), []).append((user, r, wrote))
    return groups


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), st.sampled_from(["D", "W"]), GROUPINGS)
def test_active_users_are_what_plain_python_counts(rows, tz, freq, by):
    kept = known(rows)
    made = metrics.active_users(arrow(rows), tz=tz, freq=freq, by=by).to_pylist()
    groups = grouped(acts(kept), by)
    first = min((day(r["at"], tz) for r in kept), default=None)
    latest = max((day(r["at"], tz) for r in kept), default=None)
    assert list(dict.fromkeys(r["bucket"] for r in made)) == (labels(kept, freq, tz) if made else [])
    for r in made:
        found = groups.get(tuple(r[name] for name in by), [])
        inside = {user for user, x, _ in found if label(x["at"], freq, tz) == r["bucket"]}
        assert r["active"] == len(inside)
        last = min(day(r["end"] - timedelta(microseconds=1), tz), latest)
        for name, length in (("wau", 7), ("mau", 28)):
            window = {user for user, x, _ in found if 0 <= (last - day(x["at"], tz)).days < length}
            assert r[name] == len(window)
            assert r[f"{name}_partial"] == ((last - first).days < length - 1)
        days = [last - timedelta(days=k) for k in range(28) if last - timedelta(days=k) >= first]
        daus = [len({user for user, x, _ in found if day(x["at"], tz) == d}) for d in days]
        assert rounded(r["mean_dau"]) == rounded(sum(daus) / len(daus))
        full = len(days) == 28 and r["mau"]
        assert rounded(r["stickiness"]) == (rounded(sum(daus) / 28 / r["mau"]) if full else None)
        reached = {
            (x["gateway"], x["chat_id"])
            for x in kept
            if x["type"] in MESSAGES and x["role"] == "assistant" and x["chat_type"] == "private"
            if label(x["at"], freq, tz) == r["bucket"] and all(x[name] == r[name] for name in by)
        }
        assert r["reached"] == len(reached)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), st.sampled_from(["D", "W", "M"]), GROUPINGS)
def test_growth_is_what_plain_python_counts(rows, tz, freq, by):
    made = metrics.user_growth(arrow(rows), tz=tz, freq=freq, by=by).to_pylist()
    groups = grouped(acts(known(rows)), by)
    for r in made:
        found = groups.get(tuple(r[name] for name in by), [])
        active = {user for user, x, _ in found if label(x["at"], freq, tz) == r["bucket"]}
        firsts = {}
        for user, x, wrote in found:
            if wrote:
                firsts[user] = min(firsts.get(user, x["at"]), x["at"])
        new = {user for user, at in firsts.items() if label(at, freq, tz) == r["bucket"]}
        back = set()
        for user in active:
            days = sorted(day(x["at"], tz) for u, x, _ in found if u == user)
            for before, after in pairwise(days):
                at = datetime(after.year, after.month, after.day, 12, tzinfo=ZoneInfo(tz))
                if (after - before).days >= 28 and label(at, freq, tz) == r["bucket"]:
                    back.add(user)
        assert (r["active"], r["new"], r["returning"]) == (len(active), len(new), len(active) - len(new))
        assert r["resurrected"] == len(back)


@settings(max_examples=EXAMPLES, deadline=None)
@given(journals(), st.sampled_from(ZONES), st.sampled_from(["D", "W", "M"]), GROUPINGS, st.booleans())
def test_retention_is_what_plain_python_counts(rows, tz, freq, by, unbounded):
    kept = known(rows)
    made = metrics.retention(arrow(rows), tz=tz, freq=freq, by=by, unbounded=unbounded).to_pylist()
    periods = labels(kept, freq, tz)
    groups = grouped(acts(kept), by)
    expected = []
    for group in sorted(groups):
        cohort, active = {}, {}
        for user, x, wrote in groups[group]:
            period = periods.index(label(x["at"], freq, tz))
            active.setdefault(user, set()).add(period)
            if wrote:
                cohort[user] = min(cohort.get(user, period), period)
        for first in sorted(set(cohort.values())):
            users = [user for user, c in cohort.items() if c == first]
            for k in range(len(periods) - first):
                hits = sum(
                    any(p >= first + k if unbounded else p == first + k for p in active[user])
                    for user in users
                )
                expected.append((*group, periods[first], k, len(users), hits))
    assert [
        (*(r[name] for name in by), r["cohort"], r["period"], r["users"], r["active"]) for r in made
    ] == expected
    for r in made:
        late = r["period"] == len(periods) - 1 - periods.index(r["cohort"])
        assert r["unfinished"] == late, "only the last period can be open"
        assert rounded(r["retained_rate"]) == (None if late else rounded(r["active"] / r["users"]))
        low, high = (None, None) if late else wilson(r["active"], r["users"])
        assert (rounded(r["retained_low"]) or 0) == pytest.approx(low or 0, abs=1e-7)
        assert (rounded(r["retained_high"]) or 0) == pytest.approx(high or 0, abs=1e-7)


@settings(max_examples=KINDS_EXAMPLES, deadline=None)
@given(journals())
def test_people_are_the_same_in_every_kind_of_frame(rows):
    for metric in (metrics.active_users, metrics.user_growth, metrics.retention, metrics.hour_weekday):
        made = [records(metric(frame, tz="Europe/Berlin")) for frame in frames(rows).values()]
        assert all(one == made[0] for one in made)


def test_bots_are_no_users():
    rows = [
        row("assistant", at=START, event_id="a", user_id="bot", chat_id="c"),
        row("system", at=START, event_id="b", user_id="s"),
        row(at=START, event_id="c", user_id=""),
    ]
    made = metrics.active_users(arrow(rows))
    (found,) = made.to_pylist()
    assert (found["active"], found["reached"]) == (0, 1)
    assert metrics.facts(made).numbers["no_user"] == 1


def test_the_first_28_days_are_marked():
    rows = [row(at=START + timedelta(days=d), event_id=f"e{d}", user_id="u") for d in (0, 27, 28)]
    made = metrics.user_growth(arrow(rows), freq="D").to_pylist()
    assert [r["censored"] for r in made] == [True] * 28 + [True], "the 29th day begins before noon"
    assert made[0]["new"] == 1
    assert sum(r["resurrected"] for r in made) == 0


def test_retention_needs_periods():
    with pytest.raises(ConfigError, match="periods"):
        metrics.retention(arrow([]), freq="")
