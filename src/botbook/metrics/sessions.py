"""Conversations as wholes: first responses, length, containment."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, Final, Literal

import narwhals as nw
import numpy as np

from botbook._errors import ConfigError
from botbook.metrics._columns import Columns
from botbook.metrics._counts import cells_of, rates, spread_groups
from botbook.metrics._frame import Rows, Strings, read
from botbook.metrics._kinds import codes, micros_of
from botbook.metrics._sessions import Sessions, find_sessions
from botbook.metrics._statistics import percentiles
from botbook.metrics._time import MICROS, NEVER, positive
from botbook.metrics._turns import IDLE_S, PAIRING, SHARPER, grouped

__all__ = ["containment", "conversation_length", "first_response"]

#: Chatwoot's bands for people, in seconds: 0-1, 1-4, 4-8, 8-24, 24+ hours (bots.md 3c).
BANDS: Final = (0.0, 3_600.0, 14_400.0, 28_800.0, 86_400.0, float("inf"))
#: Edges of a logarithmic histogram: three a decade.
DECADE: Final = (1.0, 2.0, 5.0)
#: Edges in seconds, up to a day.
TIMES: Final = (
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0),
    *(1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0),
)
#: A user who comes back within this time was not helped for good, in seconds (bots.md 3c).
RETURN_S: Final = 86_400.0
#: Measures that are no seconds.
COUNTED: Final = ("turns", "messages")
HANDOFF: Final = ("*.handoff", "*.hand_off", "*.handed_off")

Shape = Literal["", "log", "bands"]


def first_response(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = None,
    by: Strings = (),
    as_of: datetime | None = None,
    idle: float = IDLE_S,
    histogram: Shape = "",
) -> Any:
    """From the first user message of a session to the first message of the bot, or of an agent, behind it.

    The denominator is sessions with at least one reply (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket; sessions are booked to their start.
        by: Columns to group by, as the first message has them.
        as_of: Leave out what happened later; default the time of the last row.
        idle: A session ends after so many seconds of silence.
        histogram: ``log`` or ``bands`` (0-1, 1-4, 4-8, 8-24, 24+ h, for people, with a long `idle`) gives
            counts by length in place of percentiles.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, n (sessions with a reply), p50_s, p75_s, p95_s, without_reply (closed sessions without
        one), open (sessions that may still get one). With `histogram` one row per group and step:
        `by`, low_s, high_s, n, total, p50_s.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows, sessions = _sessions(frame, "first_response", tz, "" if histogram else freq, by, as_of, idle)
    waits = np.where(
        sessions.reply_us == NEVER, np.nan, (sessions.reply_us - sessions.first_user_us) / MICROS
    )
    used = int(np.sum(~np.isnan(waits)))
    groups, keys = _groups(rows, sessions)
    if histogram:
        return rows.give(_histogram(rows, groups, keys, {"": waits}, histogram), used=used)
    made, found = _cells(rows, sessions, groups, keys)
    known = [waits[cell][~np.isnan(waits[cell])] for cell in found]
    silent = [np.isnan(waits[cell]) for cell in found]
    made.count("n", [len(cell) for cell in known])
    _percentiles(made, "p{}_s", known, (50.0, 75.0, 95.0))
    pairs = list(zip(silent, found, strict=True))
    made.count("without_reply", [np.sum(quiet & sessions.closed[cell]) for quiet, cell in pairs])
    made.count("open", [np.sum(quiet & ~sessions.closed[cell]) for quiet, cell in pairs])
    without = int(np.sum(np.isnan(waits) & sessions.closed))
    notes = [f"{without:,} sessions without a reply"]
    return rows.give(made, used=used, notes=notes, numbers={"without_reply": without})


def conversation_length(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = None,
    by: Strings = (),
    as_of: datetime | None = None,
    idle: float = IDLE_S,
    histogram: bool = False,
) -> Any:
    """User turns, messages and seconds of closed sessions.

    A session is one chat until nobody says anything for longer than `idle`; it must have a user
    message. Its length is last minus first message, so one message is 0 s. Sessions that are still
    open at `as_of` are left out and counted (bots.md 3b, 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket; sessions are booked to their start.
        by: Columns to group by, as the first message has them.
        as_of: Leave out what happened later; default the time of the last row.
        idle: In seconds.
        histogram: Give counts by length in place of percentiles.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, n (closed sessions), open, turns_p50, turns_p95, messages_p50, messages_p95, length_p50_s,
        length_p95_s. With `histogram` one row per group, measure (``turns``, ``messages``, ``length_s``)
        and step: `by`, measure, low, high, n, total, p50.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows, sessions = _sessions(frame, "conversation_length", tz, "" if histogram else freq, by, as_of, idle)
    groups, keys = _groups(rows, sessions)
    lengths = (sessions.end_us - sessions.start_us) / MICROS
    measures = {"turns": sessions.turns, "messages": sessions.messages, "length_s": lengths}
    used, still_open = int(sessions.closed.sum()), int((~sessions.closed).sum())
    notes = [f"{still_open:,} open session{'s' * (still_open > 1)} left out"] if still_open else []
    if histogram:
        values = {name: np.where(sessions.closed, value, np.nan) for name, value in measures.items()}
        made = _histogram(rows, groups, keys, values, "log")
    else:
        made, cells = _cells(rows, sessions, groups, keys)
        closed = [cell[sessions.closed[cell]] for cell in cells]
        made.count("n", [len(cell) for cell in closed])
        made.count("open", [len(cell) - len(mine) for cell, mine in zip(cells, closed, strict=True)])
        names = {"turns": "turns_p{}", "messages": "messages_p{}", "length_s": "length_p{}_s"}
        for name, value in measures.items():
            _percentiles(made, names[name], [value[cell] for cell in closed], (50.0, 95.0))
    return rows.give(
        made, used=used, notes=notes, numbers={"open": still_open, "bot_only": sessions.bot_only}
    )


def containment(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "W",
    by: Strings = (),
    as_of: datetime | None = None,
    idle: float = IDLE_S,
    handoff: Strings = HANDOFF,
) -> Any:
    """How closed sessions ended: handed to people, abandoned, or resolved by the bot.

    All outcomes are booked to the bucket in which the session started, so rates stay within 0..1. A
    session with any number of hand-offs counts once. Of the others, one whose last user turn was not
    answered is abandoned, the rest is resolved; contained is both. Strict containment also needs that no
    user of the session comes back to the bot within 24 h; its denominator is the sessions of which
    those 24 h are over (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        by: Columns to group by, as the first message has them.
        as_of: Leave out what happened later; default the time of the last row.
        idle: A session ends after so many seconds of silence.
        handoff: Event types that hand a chat to people, ``*`` allowed.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, sessions (closed, the denominator), open, contained, handed_off, abandoned, resolved, each
        of those four with …_rate, …_low, …_high (Wilson 95 %), strict, strict_sessions and strict_rate,
        strict_low, strict_high.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows, sessions = _sessions(frame, "containment", tz, freq, by, as_of, idle)
    groups, keys = _groups(rows, sessions)
    made, cells = _cells(rows, sessions, groups, keys)
    closed = [cell[sessions.closed[cell]] for cell in cells]
    handed, some = _handed_off(rows, sessions, handoff, idle)
    back, known = _came_back(rows, sessions)
    outcomes = {
        "contained": ~handed,
        "handed_off": handed,
        "abandoned": ~handed & ~sessions.answered,
        "resolved": ~handed & sessions.answered,
    }
    made.count("sessions", [len(cell) for cell in closed])
    made.count("open", [len(cell) - len(mine) for cell, mine in zip(cells, closed, strict=True)])
    for name, outcome in outcomes.items():
        counts = [(int(outcome[cell].sum()), len(cell)) for cell in closed]
        rates(made.count(name, [hits for hits, _ in counts]), name, counts)
    sure = [cell[known[cell]] for cell in closed]
    counts = [(int((~handed & ~back)[cell].sum()), len(cell)) for cell in sure]
    made.count("strict", [hits for hits, _ in counts]).count("strict_sessions", [of for _, of in counts])
    rates(made, "strict", counts)
    notes = [] if some else ["no hand-off events here, so every session counts as contained"]
    still_open = int((~sessions.closed).sum())
    return rows.give(made, used=int(sessions.closed.sum()), notes=notes, numbers={"open": still_open})


def _sessions(
    frame: Any, metric: str, tz: str, freq: str | None, by: Strings, as_of: datetime | None, idle: float
) -> tuple[Rows, Sessions]:
    idle = positive("idle", idle)
    rows = read(frame, metric=metric, needs=PAIRING, wants=SHARPER, tz=tz, freq=freq, by=by, as_of=as_of)
    return rows, find_sessions(rows, idle=idle)


def _groups(rows: Rows, sessions: Sessions) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    return grouped(rows, [sessions.rows[name].to_list() for name in rows.by], len(sessions))


def _cells(
    rows: Rows, sessions: Sessions, groups: list[tuple[str, ...]], keys: list[tuple[str, ...]]
) -> tuple[Columns, list[Any]]:
    """A result with its buckets and groups, and for each row the numbers of its sessions."""
    cut = rows.buckets()
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by], groups, cut)
    cells = cells_of(cut, sessions.start_us, keys)
    order = [(slot, group) for slot in range(len(cut or ())) for group in groups]
    return made, [np.array(cells.get(cell, []), dtype=np.int64) for cell in order]


def _percentiles(made: Columns, name: str, cells: Sequence[Any], at: tuple[float, ...]) -> None:
    found = [percentiles(cell, at) for cell in cells]
    for position, percent in enumerate(at):
        made.number(name.format(f"{percent:.0f}"), [values[position] for values in found])


def _histogram(
    rows: Rows,
    groups: list[tuple[str, ...]],
    keys: list[tuple[str, ...]],
    measures: dict[str, Any],
    shape: str,
) -> Columns:
    """Counts between edges; a logarithmic one has a step of its own for what is below its first edge."""
    if shape not in ("log", "bands"):
        raise ConfigError(f"there is no histogram {shape!r}", hint="It is log or bands.")
    found: list[tuple[tuple[str, ...], str, float, float, int, int, float]] = []
    for group in groups:
        mine = np.array([key == group for key in keys], dtype=bool)
        for measure, values in measures.items():
            known = values[mine & ~np.isnan(values)]
            edges = BANDS if shape == "bands" else _edges(known, time=measure not in COUNTED)
            (middle,) = percentiles(known, (50.0,))
            for low, high in pairwise(edges):
                count = int(np.sum((known >= low) & (known < high)))
                found.append((group, measure, low, high, count, len(known), middle))
    made, single = Columns(), [*measures] == [""]
    for position, name in enumerate(rows.by):
        made.text(name, [step[0][position] for step in found])
    if not single:
        made.text("measure", [step[1] for step in found])
    unit = "_s" if single else ""
    made.number(f"low{unit}", [step[2] for step in found]).number(f"high{unit}", [step[3] for step in found])
    made.count("n", [step[4] for step in found]).count("total", [step[5] for step in found])
    return made.number(f"p50{unit}", [step[6] for step in found])


def _edges(values: Any, *, time: bool) -> list[float]:
    """0, then round steps that grow, until the largest value is in: 1, 2, 5, 10, … or round times."""
    if not len(values):
        return []
    largest = float(np.max(values))
    steps = itertools.chain(TIMES, (86_400.0 * 2**k for k in itertools.count())) if time else _decades()
    edges = [0.0]
    while edges[-1] <= largest:
        edges.append(next(steps))
    return edges


def _decades() -> Iterator[float]:
    for decade in itertools.count():
        yield from (step * 10.0**decade for step in DECADE)


def _handed_off(rows: Rows, sessions: Sessions, handoff: Strings, idle: float) -> tuple[Any, bool]:
    """Which sessions had a hand-off event: in the same chat, from the start until the silence is over."""
    patterns = (handoff,) if isinstance(handoff, str) else tuple(handoff)
    types = {name for name in rows.table["type"].unique().to_list() if _matches(name, patterns)}
    handed = np.zeros(len(sessions), dtype=bool)
    if not types:
        return handed, False
    events = rows.only(nw.col("type").is_in(sorted(types)))
    starts: dict[tuple[str, ...], list[int]] = {}
    names = ("gateway", "bot", "chat_id")
    for k, where in enumerate(sessions.rows.select(*names).iter_rows()):
        starts.setdefault(where, []).append(k)
    for *chat, at in events.select(*names, "at_us").iter_rows():
        for k in starts.get(tuple(chat), ()):
            if sessions.start_us[k] <= at <= sessions.end_us[k] + idle * MICROS:
                handed[k] = True
    return handed, True


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _came_back(rows: Rows, sessions: Sessions) -> tuple[Any, Any]:
    """Per session: whether a user of it came back to the bot in time, and whether that time is over."""
    known = (rows.as_of_us or 0) - sessions.end_us > RETURN_S * MICROS
    back = np.zeros(len(sessions), dtype=bool)
    kept, number = sessions.bounds
    place = {int(session): k for k, session in enumerate(kept)}
    user = np.asarray((sessions.talk["role"] == "user").to_numpy(), dtype=bool) & np.asarray(
        (sessions.talk["user_id"] != "").to_numpy(), dtype=bool
    )
    who = codes(sessions.talk, "gateway", "bot", "user_id").to_numpy()
    visits: dict[int, list[tuple[int, int]]] = {}
    at = micros_of(sessions.talk)
    for row in np.flatnonzero(user).tolist():
        visits.setdefault(int(who[row]), []).append((int(at[row]), place[int(number[row])]))
    for found in visits.values():
        _mark_returns(sorted(found), sessions, back)
    return back, known


def _mark_returns(visits: list[tuple[int, int]], sessions: Sessions, back: Any) -> None:
    """Mark the sessions after whose end the same user wrote in another one, within the time."""
    times = np.array([at for at, _ in visits], dtype=np.int64)
    mine = np.unique([session for _, session in visits])
    ends = sessions.end_us[mine]
    later = np.searchsorted(times, ends, side="right")
    for session, end, place in zip(mine.tolist(), ends.tolist(), later.tolist(), strict=True):
        while place < len(visits) and times[place] - end <= RETURN_S * MICROS:
            if visits[place][1] != session:
                back[session] = True
                break
            place += 1
