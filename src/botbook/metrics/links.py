"""How well connections held."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import narwhals as nw
import numpy as np

from botbook.metrics._frame import Rows, read
from botbook.metrics._kinds import micros_of
from botbook.metrics._statistics import NAN, rate
from botbook.metrics._time import MICROS, Buckets, micros

__all__ = ["connection_health"]

Link = tuple[str, str]
Span = tuple[int, int]


def connection_health(
    frame: Any, *, tz: str = "UTC", freq: str | None = None, as_of: datetime | None = None
) -> Any:
    """How long each connection was up, and what was lost and won back.

    The window of a connection runs from its first row to `as_of`. A connection of which the frame has
    no ``connection.…`` row cannot be judged: its times are NaN (bots.md 3c).

    Args:
        frame: All events, as `bot.events()` makes, with the ``connection.…`` rows.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        One row per bucket and connection: start, end, bucket, hours, gap_s, unfinished, gateway, bot,
        window_s, connected_s, connected_rate (of the window), reconnects, gaps (that began in the
        bucket), recovered_gaps (of them, with a recovered event inside), longest_gap_s, recovered
        (events fetched after a gap), events, duplicates (dropped, over the whole range).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows = read(frame, metric="connection_health", wants=["recovered"], tz=tz, freq=freq, as_of=as_of)
    cut = rows.buckets()
    links: list[Link] = sorted(set(rows.table.select("gateway", "bot").iter_rows()) - {("", "")})
    made = rows.bucketed(cut, times=len(links))
    size = len(cut or ())
    made.text("gateway", [gateway for _ in range(size) for gateway, _ in links])
    made.text("bot", [bot for _ in range(size) for _, bot in links])
    found = [_health(rows, link, cut) for link in links] if cut else []
    order = [(slot, k) for slot in range(size) for k in range(len(links))]
    for name in ("window_s", "connected_s", "connected_rate"):
        made.number(name, [found[k][name][slot] for slot, k in order])
    for name in ("reconnects", "gaps", "recovered_gaps"):
        made.count(name, [found[k][name][slot] for slot, k in order])
    made.number("longest_gap_s", [found[k]["longest_gap_s"][slot] for slot, k in order])
    for name in ("recovered", "events"):
        made.count(name, [found[k][name][slot] for slot, k in order])
    made.count("duplicates", [rows.dropped.get(links[k], 0) for _, k in order])
    blind = sum(not health["known"][0] for health in found)
    notes = [f"{blind} connections without connection rows"] if blind else []
    return rows.give(made, used=len(rows.table), notes=notes, by=["gateway", "bot"])


def _health(rows: Rows, link: Link, cut: Buckets) -> dict[str, Sequence[Any]]:
    """The columns of one connection, a value a bucket."""
    mine = rows.only(nw.col("gateway") == link[0], nw.col("bot") == link[1])
    at, first, last = micros_of(mine), int(mine["at_us"].min()), rows.as_of_us or 0
    gaps = [(micros(gap.start), micros(gap.end)) for gap in rows.facts.gaps if (gap.gateway, gap.bot) == link]
    inside = [(max(start, first), end) for start, end in gaps if end > first]
    window, lost = cut.overlap_s([(first, last)]), cut.overlap_s(inside)
    known = bool(mine["type"].str.starts_with("connection.").any())
    up = [(w - gone) if known else NAN for w, gone in zip(window, lost, strict=True)]
    came_back = np.asarray(mine["recovered"].str.to_lowercase().is_in(["true", "1"]).to_numpy(), dtype=bool)
    opened = np.sort(at[np.asarray((mine["type"] == "connection.opened").to_numpy(), dtype=bool)])
    won = [span for span in gaps if np.any((at >= span[0]) & (at <= span[1]) & came_back)]
    longest = [max(_lengths(cut, slot, gaps), default=0.0) if known else NAN for slot in range(len(cut))]
    return {
        "known": [known],
        "window_s": window,
        "connected_s": up,
        "connected_rate": [rate(value, w) for value, w in zip(up, window, strict=True)],
        "reconnects": _per_bucket(cut, opened[1:]),
        "gaps": _per_bucket(cut, np.array([start for start, _ in gaps], dtype=np.int64)),
        "recovered_gaps": _per_bucket(cut, np.array([start for start, _ in won], dtype=np.int64)),
        "longest_gap_s": longest,
        "recovered": _per_bucket(cut, at[came_back]),
        "events": _per_bucket(cut, at),
    }


def _lengths(cut: Buckets, slot: int, gaps: list[Span]) -> list[float]:
    """How long the gaps were, in seconds, that began in a bucket; one from before belongs to the first."""
    low, high = int(cut.edges[slot]), int(cut.edges[slot + 1])
    return [(end - start) / MICROS for start, end in gaps if low <= max(start, int(cut.edges[0])) < high]


def _per_bucket(cut: Buckets, at: Any) -> list[int]:
    slots = np.clip(cut.index(at), 0, len(cut) - 1)
    return [int(count) for count in np.bincount(slots, minlength=len(cut))]
