"""What users think of answers: likes, coverage, changes of mind, reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import numpy as np

from botbook._errors import ConfigError
from botbook.events import CANCEL, DISLIKE, LIKE
from botbook.metrics._columns import Columns
from botbook.metrics._counts import cells_of, rates, spread_groups, tally
from botbook.metrics._frame import Rows, Strings, read
from botbook.metrics._ratings import NONE, STATES, WANTS, Rating, answers_of, fold
from botbook.metrics._statistics import NAN, rate, wilson

__all__ = ["dislike_reasons", "feedback_changes", "feedback_coverage", "feedback_state", "like_rate"]

#: A like rate of fewer ratings is hidden (bots.md 3c).
MIN_N: Final = 30


def feedback_state(frame: Any, *, tz: str = "UTC", by: Strings = (), as_of: datetime | None = None) -> Any:
    """Where each rating stands: the last of its events wins.

    Events of one feedback id are folded in the order of event time, then of arrival: 1 is a like, 2 a
    dislike, 3 takes the rating back. `as_of` gives the state as it was then (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone, for the facts.
        by: Columns to add.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        One row per feedback id: gateway, bot, chat_id, user_id, feedback_id, message_id, the columns
        of `by`, state (``like``, ``dislike``, ``none``), events, reasons, text, answered_at (of the
        answer; missing if it is not in the frame), first_at, last_at.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows, ratings = _ratings(frame, "feedback_state", tz, None, by, as_of)
    ratings.sort(key=lambda r: (r.booked_us, r.gateway, r.bot, r.feedback_id))
    made = Columns()
    for name in ("gateway", "bot", "chat_id", "user_id", "feedback_id", "message_id"):
        made.text(name, [getattr(rating, name) for rating in ratings])
    for position, name in enumerate(rows.by):
        if name not in made.names:
            made.text(name, [rating.group[position] for rating in ratings])
    made.text("state", [STATES[rating.state] for rating in ratings])
    made.count("events", [len(rating.clicks) for rating in ratings])
    made.texts("reasons", [rating.reasons for rating in ratings])
    made.text("text", [rating.text for rating in ratings])
    made.time("answered_at", [rating.answered_us for rating in ratings])
    made.time("first_at", [r.first_us for r in ratings]).time("last_at", [r.last_us for r in ratings])
    return rows.give(made, used=len(ratings))


def like_rate(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = None,
    by: Strings = (),
    as_of: datetime | None = None,
    min_n: int = MIN_N,
) -> Any:
    """Likes among ratings that stand.

    The denominator is likes and dislikes; a rating that was taken back is neither. A late click is
    booked to its answer. Few users rate, so how many answers were rated stands beside it (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        by: Columns to group by, as the answer has them.
        as_of: The state at that time; default that of the last row.
        min_n: With fewer ratings the rate is NaN; 0 shows every one.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, n (likes and dislikes), likes, dislikes, like_rate, like_low, like_high (Wilson 95 %),
        hidden, answers (that could be rated), coverage_rate (see `feedback_coverage`).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    if isinstance(min_n, bool) or not isinstance(min_n, int) or min_n < 0:
        raise ConfigError(f"min_n={min_n!r} is no whole number", hint="0 shows every rate.")
    rows, ratings = _ratings(frame, "like_rate", tz, freq, by, as_of)
    groups = {rating.group for rating in ratings}
    made, cells = _cells(rows, ratings, groups)
    counts = [(_how_many(cell, LIKE), _how_many(cell, LIKE, DISLIKE)) for cell in cells]
    made.count("n", [of for _, of in counts]).count("likes", [hits for hits, _ in counts])
    made.count("dislikes", [of - hits for hits, of in counts])
    hidden = [0 < of < min_n for _, of in counts]
    shown = [(0, 0) if away else count for count, away in zip(counts, hidden, strict=True)]
    rates(made, "like", shown).flag("hidden", hidden)
    of = _answers(rows, groups)
    known = [sum(r.answered_us is not None and r.state != NONE for r in cell) for cell in cells]
    made.count("answers", of)
    made.number("coverage_rate", [rate(hits, n) for hits, n in zip(known, of, strict=True)])
    few = sum(hidden)
    notes = [f"{few:,} rates of fewer than {min_n} ratings hidden"] if few else []
    return rows.give(made, used=sum(of for _, of in counts), notes=notes, numbers=_set_aside(ratings))


def feedback_coverage(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "D",
    by: Strings = (),
    as_of: datetime | None = None,
) -> Any:
    """How many answers were rated at all, and dislikes for each thousand answers.

    The denominator is answers that could be rated: bot messages with an id. Ratings of answers that
    the frame does not hold are left out and counted (bots.md 3c). Where several people may rate one
    answer the share can pass 1; then it has no interval.

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        by: Columns to group by, as the answer has them.
        as_of: The state at that time; default that of the last row.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, answers, rated (likes and dislikes), coverage_rate, coverage_low, coverage_high (Wilson
        95 %), dislikes, dislikes_per_1000.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows, ratings = _ratings(frame, "feedback_coverage", tz, freq, by, as_of)
    known = [rating for rating in ratings if rating.answered_us is not None]
    groups = {*rows.groups(answers_of(rows)), *(rating.group for rating in known)}
    made, cells = _cells(rows, known, groups)
    of = _answers(rows, groups)
    rated = [_how_many(cell, LIKE, DISLIKE) for cell in cells]
    disliked = [_how_many(cell, DISLIKE) for cell in cells]
    made.count("answers", of).count("rated", rated)
    made.number("coverage_rate", [rate(hits, n) for hits, n in zip(rated, of, strict=True)])
    ends = [wilson(hits, n) if hits <= n else (NAN, NAN) for hits, n in zip(rated, of, strict=True)]
    made.number("coverage_low", [low for low, _ in ends]).number("coverage_high", [high for _, high in ends])
    made.count("dislikes", disliked)
    made.number("dislikes_per_1000", [1000 * rate(hits, n) for hits, n in zip(disliked, of, strict=True)])
    return rows.give(made, used=sum(of), numbers=_set_aside(ratings))


def feedback_changes(frame: Any, *, tz: str = "UTC", by: Strings = (), as_of: datetime | None = None) -> Any:
    """How often users take a rating back or turn it round.

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone, for the facts.
        by: Columns to group by, as the answer has them.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        Nine rows per group: the columns of `by`, before and after (``none``, ``like``, ``dislike``),
        changes (events that led from one to the other), ids (feedback ids with any event, the
        denominator), cancelled (of them, with a cancel as the last event), cancelled_rate,
        cancelled_low, cancelled_high (Wilson 95 %).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows, ratings = _ratings(frame, "feedback_changes", tz, None, by, as_of)
    groups = sorted({rating.group for rating in ratings}) if rows.by else [()]
    steps = [(before, after) for before in STATES for after in STATES]
    order = [(group, step) for group in groups for step in steps]
    mine = {group: [rating for rating in ratings if rating.group == group] for group in groups}
    seen = {group: Counter(step for rating in mine[group] for step in rating.changes) for group in groups}
    made = Columns()
    for position, name in enumerate(rows.by):
        made.text(name, [group[position] for group, _ in order])
    made.text("before", [STATES[step[0]] for _, step in order])
    made.text("after", [STATES[step[1]] for _, step in order])
    made.count("changes", [seen[group][step] for group, step in order])
    gone = {group: sum(rating.clicks[-1] == CANCEL for rating in mine[group]) for group in groups}
    counts = [(gone[group], len(mine[group])) for group, _ in order]
    made.count("ids", [of for _, of in counts])
    rates(made.count("cancelled", [hits for hits, _ in counts]), "cancelled", counts)
    return rows.give(made, used=len(ratings))


def dislike_reasons(frame: Any, *, tz: str = "UTC", by: Strings = (), as_of: datetime | None = None) -> Any:
    """Which reasons users tick when they dislike an answer.

    The denominator is disliked answers. One may name several reasons, so shares add up to more than
    100 %. Free text is counted apart (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone, for the facts.
        by: Columns to group by, as the answer has them.
        as_of: The state at that time; default that of the last row.

    Returns:
        One row per group and reason, most named first: the columns of `by`, reason, named, disliked
        (the denominator), named_rate, named_low, named_high (Wilson 95 %).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows, ratings = _ratings(frame, "dislike_reasons", tz, None, by, as_of)
    disliked = [rating for rating in ratings if rating.state == DISLIKE]
    found: list[tuple[tuple[str, ...], str, int, int]] = []
    for group in sorted({rating.group for rating in disliked}):
        mine = [rating for rating in disliked if rating.group == group]
        named = Counter(reason for rating in mine for reason in rating.reasons)
        ranked = sorted(named.items(), key=lambda pair: (-pair[1], pair[0]))
        found += [(group, reason, count, len(mine)) for reason, count in ranked]
    made = Columns()
    for position, name in enumerate(rows.by):
        made.text(name, [group[position] for group, _, _, _ in found])
    made.text("reason", [reason for _, reason, _, _ in found])
    counts = [(hits, of) for _, _, hits, of in found]
    rates(
        made.count("named", [hits for hits, _ in counts]).count("disliked", [of for _, of in counts]),
        "named",
        counts,
    )
    free, silent = sum(r.text != "" for r in disliked), sum(not r.reasons for r in disliked)
    notes = [f"{len(disliked):,} disliked, {silent:,} without a reason, {free:,} with free text"]
    numbers = {"free_text": free, "no_reason": silent}
    return rows.give(made, used=len(disliked), notes=notes, numbers=numbers, by=["reason"])


def _ratings(
    frame: Any, metric: str, tz: str, freq: str | None, by: Strings, as_of: datetime | None
) -> tuple[Rows, list[Rating]]:
    needs = ["feedback_type"]
    rows = read(frame, metric=metric, needs=needs, wants=WANTS, tz=tz, freq=freq, by=by, as_of=as_of)
    return rows, fold(rows)


def _cells(
    rows: Rows, ratings: list[Rating], groups: set[tuple[str, ...]]
) -> tuple[Columns, list[list[Rating]]]:
    """A result with its buckets and groups, and the ratings of each row."""
    ordered: list[tuple[str, ...]] = sorted(groups) if rows.by else [()]
    cut = rows.buckets()
    at = np.array([rating.booked_us for rating in ratings], dtype=np.int64)
    cells = cells_of(cut, at, [rating.group for rating in ratings])
    made = rows.bucketed(cut, times=len(ordered))
    spread_groups(made, [*rows.by], ordered, cut)
    order = [(slot, group) for slot in range(len(cut or ())) for group in ordered]
    return made, [[ratings[k] for k in cells.get(cell, [])] for cell in order]


def _answers(rows: Rows, groups: set[tuple[str, ...]]) -> list[int]:
    """Answers that could be rated, in the order of `_cells`."""
    cut = rows.buckets()
    found = tally(answers_of(rows), cut, [*rows.by])
    ordered: list[tuple[str, ...]] = sorted(groups) if rows.by else [()]
    return [found.get((slot, *group), 0) for slot in range(len(cut or ())) for group in ordered]


def _how_many(ratings: Iterable[Rating], *states: int) -> int:
    return sum(rating.state in states for rating in ratings)


def _set_aside(ratings: list[Rating]) -> dict[str, float]:
    """Ratings by what happened to them: taken back, or of an answer that is not here."""
    return {
        "taken_back": _how_many(ratings, NONE),
        "no_answer": sum(rating.answered_us is None for rating in ratings),
    }
