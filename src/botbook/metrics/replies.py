"""How fast and how fully the bot answers: latency, first responses, sessions, silence."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import numpy as np

from botbook._errors import ConfigError
from botbook.metrics._frame import Columns, Rows, Strings, read
from botbook.metrics._statistics import percentiles, rate, wilson
from botbook.metrics._time import MICROS, Buckets
from botbook.metrics._turns import IDLE_S, PAIRING, SHARPER, Turns, find_turns

__all__ = ["response_latency"]

#: Percentiles in every latency frame.
PERCENTILES: Final = (5.0, 25.0, 50.0, 75.0, 95.0, 99.0)
#: Most steps of one curve: more than that, and the curve is cut into equal shares.
STEPS: Final = 1_000
KINDS: Final = ("first", "complete")


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
        interpolation), user_turns, unanswered, unanswered_rate with rate_low and rate_high (Wilson
        95 %), negative. With `ecdf` one row per step: `by`, kind, n, latency_s, share.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    if ecdf:
        freq = None
    rows = read(
        frame, metric="response_latency", needs=PAIRING, wants=SHARPER, tz=tz, freq=freq, by=by, as_of=as_of
    )
    turns = find_turns(rows, idle=checked_idle(idle))
    waits = _waits(turns)
    groups, keys = grouped(rows, turns)
    if ecdf:
        made = _ecdf(rows, groups, keys, waits)
    else:
        made = _percentiles(rows, rows.buckets(), turns, groups, keys, waits)
    timed = int(np.sum(waits["first"] >= 0))
    unanswered, negative = int(np.sum(~turns.answered)), int(np.sum(waits["first"] < 0))
    notes = [f"{unanswered:,} of {len(turns.answered):,} turns without an answer"]
    notes += [f"{negative:,} with a negative time set aside"] if negative else []
    return rows.give(
        made, used=timed, notes=notes, turns=len(turns.answered), unanswered=unanswered, negative=negative
    )


def checked_idle(idle: float) -> float:
    """A silence in seconds.

    Raises:
        ConfigError: It is no positive number.
    """
    if isinstance(idle, bool) or not isinstance(idle, int | float) or not 0 < idle < float("inf"):
        raise ConfigError(f"idle={idle!r} is no number of seconds above 0", hint="The default is 1800.")
    return float(idle)


def grouped(rows: Rows, turns: Turns) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The groups there are, and the group of each turn."""
    columns = [turns.column(name) for name in rows.by]
    keys: list[tuple[str, ...]] = list(zip(*columns, strict=True)) if columns else [()] * len(turns.answered)
    return (sorted(set(keys)) if rows.by else [()]), keys


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
    cells = _cells(cut, turns, keys)
    order = [(k, group, kind) for k in range(len(cut or ())) for group in groups for kind in KINDS]
    found = [waits[kind][cells.get((k, group), [])] for k, group, kind in order]
    timed = [cell[cell >= 0] for cell in found]
    counts = [(int(np.sum(np.isnan(cell))), len(cell)) for cell in found]
    made = Columns().bucketed(cut, rows, times=len(groups) * len(KINDS))
    for position, name in enumerate(rows.by):
        made.text(name, [group[position] for _, group, _ in order])
    made.text("kind", [kind for _, _, kind in order])
    made.count("n", [len(cell) for cell in timed])
    values = [percentiles(cell, PERCENTILES) for cell in timed]
    for position, percent in enumerate(PERCENTILES):
        made.number(f"p{percent:02.0f}_s", [value[position] for value in values])
    made.count("user_turns", [of for _, of in counts])
    made.count("unanswered", [hits for hits, _ in counts])
    made.number("unanswered_rate", [rate(*count) for count in counts])
    made.number("rate_low", [wilson(*count)[0] for count in counts])
    made.number("rate_high", [wilson(*count)[1] for count in counts])
    return made.count("negative", [int(np.sum(cell < 0)) for cell in found])


def _cells(cut: Buckets | None, turns: Turns, keys: list[tuple[str, ...]]) -> dict[Any, list[int]]:
    """Which turns are in which bucket and group."""
    cells: dict[Any, list[int]] = {}
    if cut is not None:
        for turn, (slot, key) in enumerate(zip(cut.index(turns.asked_us).tolist(), keys, strict=True)):
            cells.setdefault((slot, key), []).append(turn)
    return cells


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
