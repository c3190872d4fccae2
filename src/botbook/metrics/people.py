"""Who uses a bot: active users, growth, retention."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import narwhals as nw
import numpy as np

from botbook._errors import ConfigError
from botbook.metrics._columns import Columns
from botbook.metrics._counts import spread_groups, tally
from botbook.metrics._frame import MESSAGES, Rows, Strings, read
from botbook.metrics._kinds import codes, micros_of, where
from botbook.metrics._statistics import NAN, rate, wilson
from botbook.metrics._time import MICROS, NEVER, Buckets, Ints, buckets, freq_named

__all__ = ["active_users", "retention", "user_growth"]

#: Windows of WAU and MAU, in local days (bots.md 3c).
WEEK: Final = 7
MONTH: Final = 28


def active_users(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "D",
    by: Strings = (),
    as_of: datetime | None = None,
) -> Any:
    """Users who wrote or did anything else, per bucket and over 7 and 28 days.

    A user is (gateway, user_id); bots and system rows are no users. WAU and MAU are distinct users of
    the trailing 7 and 28 local days that end with the bucket, not sums (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of days.
        freq: ``D`` makes ``active`` the DAU; also ``h``, ``W``, ``M``, None.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, active, wau, mau, mean_dau (over the 28 days), stickiness (mean_dau / mau; NaN until 28
        days are there), wau_partial and mau_partial (the frame is younger than the window), reached
        (private chats in which the bot wrote).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows = _read_people(frame, "active_users", tz, freq, by, as_of)
    people = people_of(rows)
    cut, days = rows.buckets(), _days_of(rows)
    wrote = rows.only(
        nw.col("type").is_in(MESSAGES), nw.col("role") == "assistant", nw.col("chat_type") == "private"
    )
    wrote = wrote.with_columns(user=codes(wrote, "gateway", "chat_id"))
    groups = rows.groups(nw.concat([people.select(*rows.by), wrote.select(*rows.by)]) if rows.by else people)
    active = tally(people, cut, [*rows.by], distinct="user")
    reached = tally(wrote, cut, [*rows.by], distinct="user")
    order = [(k, group) for k in range(len(cut or ())) for group in groups]
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by], groups, cut)
    made.count("active", [active.get((k, *group), 0) for k, group in order])
    _trailing(made, rows, people, cut, days, groups)
    made.count("reached", [reached.get((k, *group), 0) for k, group in order])
    return rows.give(made, used=people["user"].n_unique(), numbers={"no_user": _nameless(rows)})


def user_growth(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "W",
    by: Strings = (),
    as_of: datetime | None = None,
) -> Any:
    """New, returning and resurrected users per bucket.

    New: the user's first message in the whole frame is in the bucket, so give the whole store and not
    a piece of it. Returning: active but not new. Resurrected: the part of the returning that comes
    back after 28 local days or more (bots.md 3c). With `by` a user is new to each group.

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W`` (from Monday), ``M``, or None for one bucket.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, active, new, returning, resurrected, censored (within 28 days of the first row, where
        everyone looks new).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows = _read_people(frame, "user_growth", tz, freq, by, as_of)
    people = people_of(rows)
    cut, days = rows.buckets(), _days_of(rows)
    groups = rows.groups(people)
    active = tally(people, cut, [*rows.by], distinct="user")
    key = [*rows.by, "user"]
    firsts = people.filter(nw.col("wrote")).group_by(*key).agg(nw.col("at_us").min())
    new = tally(firsts, cut, [*rows.by])
    back = tally(_comebacks(people, days, key), cut, [*rows.by], distinct="user")
    order: list[tuple[Any, ...]] = [(k, *group) for k in range(len(cut or ())) for group in groups]
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by], groups, cut)
    made.count("active", [active.get(cell, 0) for cell in order])
    made.count("new", [new.get(cell, 0) for cell in order])
    made.count("returning", [active.get(cell, 0) - new.get(cell, 0) for cell in order])
    made.count("resurrected", [back.get(cell, 0) for cell in order])
    young = (rows.first_us or 0) + MONTH * 86_400 * MICROS
    made.flag("censored", [bool(cut.edges[cell[0]] < young) for cell in order] if cut else [])
    return rows.give(made, used=people["user"].n_unique(), numbers={"no_user": _nameless(rows)})


def retention(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str = "W",
    by: Strings = (),
    as_of: datetime | None = None,
    unbounded: bool = False,
) -> Any:
    """How many users of a cohort are active k calendar periods after their first message.

    The cohort of a user is the period of the first message in the whole frame. The denominator is
    all users of the cohort. Periods are calendar days, weeks or months in `tz` and not rolling 24 h
    windows; a period that is not over has NaN, not 0 (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes: the whole store.
        tz: Zone of the periods.
        freq: ``D``, ``W`` (from Monday) or ``M``.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.
        unbounded: Count users active in period k or any later one.

    Returns:
        One row per group, cohort and period: the columns of `by`, cohort, cohort_start (UTC), period
        (k), users (the cohort, the denominator), active (the numerator), retained_rate, retained_low and
        retained_high (Wilson 95 %), unfinished.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    if not freq_named(freq):
        raise ConfigError("retention needs periods", hint="Give freq D, W or M.")
    rows = _read_people(frame, "retention", tz, freq, by, as_of)
    people, cut = people_of(rows), rows.buckets()
    made, used = _cohorts(rows, people, cut, unbounded=unbounded)
    return rows.give(made, used=used, numbers={"no_user": _nameless(rows)})


def people_of(rows: Rows) -> nw.DataFrame[Any]:
    """What users did, a row an act, with ``user`` a number and ``wrote`` for messages.

    Raised hands count: a rating is an interaction whatever role its row has.
    """
    acted = (nw.col("role") == "user") | (nw.col("type") == "feedback.received")
    table = rows.only(acted, nw.col("user_id") != "")
    wrote = nw.col("type").is_in(MESSAGES) & (nw.col("role") == "user")
    return table.with_columns(wrote=wrote, user=codes(table, "gateway", "user_id"))


def _read_people(
    frame: Any, metric: str, tz: str, freq: str | None, by: Strings, as_of: datetime | None
) -> Rows:
    needs, wants = ["role", "user_id"], ["chat_type"]
    return read(frame, metric=metric, needs=needs, wants=wants, tz=tz, freq=freq, by=by, as_of=as_of)


def _nameless(rows: Rows) -> int:
    """User messages that name no user: they count for nobody."""
    return len(rows.only(nw.col("role") == "user", nw.col("user_id") == "", nw.col("type").is_in(MESSAGES)))


def _days_of(rows: Rows) -> Buckets | None:
    if rows.first_us is None or rows.as_of_us is None:
        return None
    return buckets(rows.first_us, rows.as_of_us, freq="D", zone=rows.zone)


def _trailing(
    made: Columns,
    rows: Rows,
    people: nw.DataFrame[Any],
    cut: Buckets | None,
    days: Buckets | None,
    groups: list[tuple[str, ...]],
) -> None:
    """Add WAU, MAU and stickiness: a user counts from an active day until the window has passed it."""
    if cut is None or days is None:
        for name in ("wau", "mau"):
            made.count(name, [])
        made.number("mean_dau", []).number("stickiness", [])
        made.flag("wau_partial", []).flag("mau_partial", [])
        return
    last = [min(day, len(days) - 1) for day in days.index(cut.edges[1:] - 1).tolist()]
    seen = {group: _windows(rows, people, days, group) for group in groups}
    order = [(day, seen[group]) for day in last for group in groups]
    mau = [int(found["mau"][day]) for day, found in order]
    mean = [float(np.mean(found["dau"][max(0, day - MONTH + 1) : day + 1])) for day, found in order]
    made.count("wau", [int(found["wau"][day]) for day, found in order]).count("mau", mau)
    made.number("mean_dau", mean)
    whole = [day >= MONTH - 1 for day, _ in order]
    made.number(
        "stickiness",
        [rate(dau, of) if full else NAN for dau, of, full in zip(mean, mau, whole, strict=True)],
    )
    made.flag("wau_partial", [day < WEEK - 1 for day, _ in order])
    made.flag("mau_partial", [not full for full in whole])


def _windows(rows: Rows, people: nw.DataFrame[Any], days: Buckets, group: tuple[str, ...]) -> dict[str, Ints]:
    """DAU, WAU and MAU of each day of one group."""
    mine = people
    for name, value in zip(rows.by, group, strict=True):
        mine = mine.filter(nw.col(name) == value)
    pairs = np.stack([micros_of(mine, "user"), days.index(micros_of(mine))])
    user, day = np.unique(pairs, axis=1) if len(mine) else pairs
    following = np.append(np.where(user[1:] == user[:-1], day[1:], NEVER), NEVER)[: len(day)]
    made: dict[str, Ints] = {}
    for name, length in (("dau", 1), ("wau", WEEK), ("mau", MONTH)):
        change = np.zeros(len(days) + 1, dtype=np.int64)
        np.add.at(change, day, 1)
        np.add.at(change, np.minimum(np.minimum(day + length, following), len(days)), -1)
        made[name] = np.cumsum(change)[:-1]
    return made


def _comebacks(people: nw.DataFrame[Any], days: Buckets | None, key: list[str]) -> nw.DataFrame[Any]:
    """Acts that come 28 local days or more after the same user's act before."""
    table = people.sort(*key, "at_us", "order")
    if days is None or not len(table):
        return table
    day = days.index(micros_of(table))
    who = micros_of(table.with_columns(who=codes(table, *key)), "who")
    away = np.append(False, (who[1:] == who[:-1]) & (day[1:] - day[:-1] >= MONTH))
    return where(table, away)


def _cohorts(
    rows: Rows, people: nw.DataFrame[Any], cut: Buckets | None, *, unbounded: bool
) -> tuple[Columns, int]:
    cells: dict[tuple[tuple[str, ...], int], dict[int, set[int]]] = {}
    sizes: dict[tuple[tuple[str, ...], int], int] = {}
    for key, first, periods in _periods(rows, people, cut):
        cell = cells.setdefault((key[:-1], first), {})
        sizes[key[:-1], first] = sizes.get((key[:-1], first), 0) + 1
        for k in range(max(periods) - first + 1) if unbounded else [p - first for p in periods]:
            cell.setdefault(k, set()).add(key[-1])
    total = len(cut or ())
    order = [(group, first, k) for group, first in sorted(cells) for k in range(total - first)]
    of = [sizes[group, first] for group, first, _ in order]
    hits = [len(cells[group, first].get(k, ())) for group, first, k in order]
    as_of = rows.as_of_us or 0
    late = [bool(cut.edges[first + k + 1] > as_of) for _, first, k in order] if cut else []
    counts = list(zip(hits, of, late, strict=True))
    made = Columns()
    for position, name in enumerate(rows.by):
        made.text(name, [group[position] for group, _, _ in order])
    made.text("cohort", [cut.labels[first] for _, first, _ in order] if cut else [])
    made.time("cohort_start", [int(cut.edges[first]) for _, first, _ in order] if cut else [])
    made.count("period", [k for _, _, k in order]).count("users", of).count("active", hits)
    made.number("retained_rate", [NAN if open_ else rate(hit, n) for hit, n, open_ in counts])
    ends = [(NAN, NAN) if open_ else wilson(hit, n) for hit, n, open_ in counts]
    made.number("retained_low", [low for low, _ in ends]).number("retained_high", [high for _, high in ends])
    return made.flag("unfinished", late), sum(sizes.values())


def _periods(
    rows: Rows, people: nw.DataFrame[Any], cut: Buckets | None
) -> Iterator[tuple[tuple[Any, ...], int, list[int]]]:
    """Group and user, the period of the first message, and the periods of activity from there on."""
    if cut is None:
        return
    key = [*rows.by, "user"]
    slot = nw.new_series("slot", cut.index(micros_of(people)), nw.Int64, backend="pyarrow")
    acts = people.with_columns(slot)
    firsts = acts.filter(nw.col("wrote")).group_by(*key).agg(nw.col("slot").min().alias("first"))
    seen: dict[tuple[Any, ...], list[int]] = {}
    for *who, period in acts.select(*key, "slot").unique().iter_rows():
        seen.setdefault(tuple(who), []).append(period)
    for *who, first in firsts.select(*key, "first").sort(*key).iter_rows():
        yield tuple(who), first, [period for period in seen[tuple(who)] if period >= first]
