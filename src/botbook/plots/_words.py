"""Numbers, times and facts in words."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from botbook.metrics import Facts

__all__ = ["NAMES", "TIED", "facts_line", "many", "seconds", "share", "ticks", "union"]

NAMES: Final = {
    "s": "second",
    "10s": "10 seconds",
    "min": "minute",
    "h": "hour",
    "D": "day",
    "W": "week",
    "M": "month",
    "": "range",
}
STEPS: Final = {
    "s": (1, 2, 5, 10, 15, 30, 60, 300, 600),
    "10s": (1, 3, 6, 30, 60, 180, 360),
    "min": (1, 2, 5, 10, 15, 30, 60, 120, 360, 720),
    "h": (1, 2, 3, 6, 12, 24, 48, 96, 168),
    "D": (1, 2, 3, 7, 14, 28, 56, 91, 182, 364),
    "W": (1, 2, 4, 8, 13, 26, 52),
    "M": (1, 2, 3, 6, 12, 24, 60),
    "": (1,),
}
#: A space at which no line breaks.
TIED: Final = "\u00a0"


def facts_line(made: Facts) -> str:
    """What a picture must say of its data (bots.md 3d)."""
    parts = [f"n = {made.used:,}"]
    if made.since and made.as_of:
        zone = zoneinfo.ZoneInfo(made.tz)
        since, as_of = made.since.astimezone(zone), made.as_of.astimezone(zone)
        parts += [f"{since:%Y-%m-%d} to {as_of:%Y-%m-%d} {made.tz}", f"as of {as_of:%Y-%m-%d %H:%M}"]
    else:
        parts.append(made.tz)
    parts.append(many(made.duplicates, "duplicate") + " dropped")
    spans = union((gap.start, gap.end) for gap in made.gaps)
    lost = sum(((end - start).total_seconds() for start, end in spans), 0.0)
    parts.append(f"{many(len(spans), 'gap')} of {seconds(lost)}" if spans else "no gaps")
    return " · ".join(part.replace(" ", TIED) if len(part) < 60 else part for part in [*parts, *made.notes])


def many(count: int, word: str) -> str:
    """A number of things."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def seconds(value: float) -> str:
    """A length of time in words, such as ``0.8 s`` or ``3.5 h``."""
    for limit, unit, name in ((0.9995, 0.001, "ms"), (99.5, 1, "s"), (3570, 60, "min"), (172_000, 3600, "h")):
        if abs(value) < limit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 86400:,.3g} d" if abs(value) < 86_400_000 else f"{value / 86400:,.0f} d"


def share(value: float) -> str:
    """A share in per cent."""
    return "–" if value != value else f"{value:.1%}"


def ticks(starts: list[datetime], freq: str, zone: str, *, most: int) -> list[tuple[int, str]]:
    """Which buckets get a name, and which: about `most`, on round numbers where there are any."""
    there = zoneinfo.ZoneInfo(zone)
    step = next((s for s in STEPS[freq] if len(starts) <= s * most), len(starts) // most + 1)
    made: list[tuple[int, str]] = []
    last: datetime | None = None
    for k, start in enumerate(starts):
        at = start.astimezone(there)
        on = (at.hour % step == 0 if step < 24 else at.hour == 0 and k % step < 24) if freq == "h" else None
        if on if on is not None else k % step == 0:
            made.append((k, _tick(at, last, freq)))
            last = at
    return made


def _tick(at: datetime, last: datetime | None, freq: str) -> str:
    new_day = last is None or at.date() != last.date()
    new_year = last is None or at.year != last.year
    if freq in ("s", "10s"):
        return f"{at:%H:%M:%S}\n{at.day} {at:%b}" if new_day else f"{at:%H:%M:%S}"
    if freq in ("min", "h"):
        return f"{at:%H:%M}\n{at.day} {at:%b}" if new_day else f"{at:%H:%M}"
    if freq == "M":
        return f"{at:%b}\n{at.year}" if new_year else f"{at:%b}"
    if freq == "":
        return ""
    return f"{at.day} {at:%b}\n{at.year}" if new_year else f"{at.day} {at:%b}"


def union(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    done: list[tuple[datetime, datetime]] = []
    for start, end in sorted(spans):
        if done and start <= done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]))
        else:
            done.append((start, end))
    return done
