"""How fast and how fully the bot answers: latency, first responses, sessions, silence."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import numpy as np

from botbook.metrics._columns import Columns
from botbook.metrics._counts import cells_of, rates, spread_groups
from botbook.metrics._frame import Rows, Strings, read
from botbook.metrics._statistics import percentiles
from botbook.metrics._time import MICROS, Buckets, positive
from botbook.metrics._turns import IDLE_S, PAIRING, SHARPER, Turns, find_turns, grouped

__all__ = ["response_latency", "unanswered"]

#: Percentiles in every latency frame.
PERCENTILES: Final = (5.0, 25.0, 50.0, 75.0, 95.0, 99.0)
#: Most steps of one curve: more than that, and the curve is cut into equal shares.
STEPS: Final = 1_000
KINDS: Final = ("first", "complete")
#: A reply that takes longer than this is none, in seconds.
WITHIN_S: Final = 300.0
TRUE: Final = frozenset({"true", "1"})


def response_latency(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "D",
    by: Strings = (),
    as_of: datetime | None = None,
    idle: float = IDLE_S,
    ecdf: bool = False,
) -> Any:
    """How long users wait: from their last message to the bot's first and to its last output.

    A turn is a run of messages of one user in one chat, up to the message that the bot answers. An
    answer belongs to the message it names in ``reply_to``, else to the last one before it. Turns are
    booked to the bucket of the question. Turns without an answer are left out of the percentiles and
    reported; so are negative times, which mean two clocks (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.
        idle: Longest silence within a turn, in seconds.
        ecdf: Give the whole distribution in place of percentiles.

    Returns:
        One row per bucket, group and kind (``first``: until the first output; ``complete``: until
        the last output of the same answer): start, end, bucket, hours, gap_s, unfinished, the columns
        of `by`, kind, n (turns timed), p05_s, p25_s, p50_s, p75_s, p95_s, p99_s (exact, by linear
        interpolation), user_turns, unanswered, unanswered_rate, unanswered_low and unanswered_high
        (Wilson 95 %), negative. With `ecdf` one row per step: `by`, kind, n, latency_s, share.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    if ecdf:
        freq = None
    rows = read(
        frame, metric="response_latency", needs=PAIRING, wants=SHARPER, tz=tz, freq=freq, by=by, as_of=as_of
    )
    turns = find_turns(rows, idle=positive("idle", idle))
    waits = _waits(turns)
    groups, keys = grouped(rows, [turns.column(name) for name in rows.by], len(turns.answered))
    if ecdf:
        made = _ecdf(rows, groups, keys, waits)
    else:
        made = _percentiles(rows, rows.buckets(), turns, groups, keys, waits)
    timed = int(np.sum(waits["first"] >= 0))
    unanswered, negative = int(np.sum(~turns.answered)), int(np.sum(waits["first"] < 0))
    notes = [f"{unanswered:,} of {len(turns.answered):,} turns without an answer"]
    notes += [f"{negative:,} with a negative time set aside"] if negative else []
    numbers = {"turns": len(turns.answered), "unanswered": unanswered, "negative": negative}
    return rows.give(made, used=timed, notes=notes, numbers=numbers)


def unanswered(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "D",
    by: Strings = (),
    as_of: datetime | None = None,
    idle: float = IDLE_S,
    within: float = WITHIN_S,
) -> Any:
    """User turns that got no reply in time, or only a fallback.

    The denominator is user turns, booked to their question. A turn asked less than `within` before
    `as_of` is not decided yet: it is left out and counted. A reply is a fallback where the frame has
    a column ``fallback`` that says so (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes; may have a column ``fallback`` (true or false) of your
            own.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.
        idle: Longest silence within a turn, in seconds.
        within: A reply that takes longer is none, in seconds.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, user_turns, unanswered, fallback, missed (both), missed_rate, missed_low, missed_high
        (Wilson 95 %), open.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    wants = (*SHARPER, "fallback")
    rows = read(frame, metric="unanswered", needs=PAIRING, wants=wants, tz=tz, freq=freq, by=by, as_of=as_of)
    turns = find_turns(rows, idle=positive("idle", idle))
    limit = positive("within", within)
    groups, keys = grouped(rows, [turns.column(name) for name in rows.by], len(turns.answered))
    waits = _waits(turns)["first"]
    late = np.isnan(waits) | (waits > limit)
    said = turns.talk["fallback"].to_list()
    fallback = np.array([k >= 0 and said[k].lower() in TRUE for k in turns.answer.tolist()], dtype=bool)
    decided = turns.asked_us + limit * MICROS <= (rows.as_of_us or 0)
    cut = rows.buckets()
    cells = cells_of(cut, turns.asked_us, keys)
    order = [(slot, group) for slot in range(len(cut or ())) for group in groups]
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by], groups, cut)
    every = [np.array(cells.get(cell, []), dtype=np.int64) for cell in order]
    sure = [cell[decided[cell]] for cell in every]
    made.count("user_turns", [len(cell) for cell in sure])
    made.count("unanswered", [late[cell].sum() for cell in sure])
    made.count("fallback", [(fallback & ~late)[cell].sum() for cell in sure])
    counts = [(int((fallback | late)[cell].sum()), len(cell)) for cell in sure]
    rates(made.count("missed", [hits for hits, _ in counts]), "missed", counts)
    made.count("open", [len(cell) - len(mine) for cell, mine in zip(every, sure, strict=True)])
    notes = [f"no reply within {limit:,.0f} s"]
    return rows.give(made, used=int(decided.sum()), notes=notes, numbers={"open": int((~decided).sum())})


def _waits(turns: Turns) -> dict[str, Any]:
    """Seconds per turn and kind; NaN without an answer."""
    ends = {"first": turns.first_us, "complete": turns.complete_us}
    none = np.where(turns.answered, 0, turns.asked_us)  # keeps the subtraction within 64 bits
    return {
        kind: np.where(
            turns.answered, (np.where(turns.answered, end, none) - turns.asked_us) / MICROS, np.nan
        )
        for kind, end in ends.items()
    }


def _percentiles(
    rows: Rows,
    cut: Buckets | None,
    turns: Turns,
    groups: list[tuple[str, ...]],
    keys: list[tuple[str, ...]],
    waits: dict[str, Any],
) -> Columns:
    cells = cells_of(cut, turns.asked_us, keys)
    order = [(k, group, kind) for k in range(len(cut or ())) for group in groups for kind in KINDS]
    found = [waits[kind][cells.get((k, group), [])] for k, group, kind in order]
    timed = [cell[cell >= 0] for cell in found]
    counts = [(int(np.sum(np.isnan(cell))), len(cell)) for cell in found]
    made = rows.bucketed(cut, times=len(groups) * len(KINDS))
    for position, name in enumerate(rows.by):
        made.text(name, [group[position] for _, group, _ in order])
    made.text("kind", [kind for _, _, kind in order])
    made.count("n", [len(cell) for cell in timed])
    values = [percentiles(cell, PERCENTILES) for cell in timed]
    for position, percent in enumerate(PERCENTILES):
        made.number(f"p{percent:02.0f}_s", [value[position] for value in values])
    made.count("user_turns", [of for _, of in counts])
    made.count("unanswered", [hits for hits, _ in counts])
    rates(made, "unanswered", counts)
    return made.count("negative", [int(np.sum(cell < 0)) for cell in found])


def _ecdf(
    rows: Rows, groups: list[tuple[str, ...]], keys: list[tuple[str, ...]], waits: dict[str, Any]
) -> Columns:
    points: list[tuple[tuple[str, ...], str, int, float, float]] = []
    for group in groups:
        mine = np.array([key == group for key in keys], dtype=bool)
        for kind in KINDS:
            values = np.sort(waits[kind][mine])
            values = values[values >= 0]
            points += [(group, kind, len(values), *step) for step in _steps(values)]
    made = Columns()
    for position, name in enumerate(rows.by):
        made.text(name, [point[0][position] for point in points])
    made.text("kind", [point[1] for point in points]).count("n", [point[2] for point in points])
    return made.number("latency_s", [p[3] for p in points]).number("share", [p[4] for p in points])


def _steps(values: Any) -> list[tuple[float, float]]:
    """Value and share at or below it, at most `STEPS` of them, the last always in."""
    n = len(values)
    if not n:
        return []
    picked = np.unique(np.ceil(np.linspace(1, n, min(n, STEPS))).astype(int))
    return [(float(values[k - 1]), float(k / n)) for k in picked]
