"""Local days and hours, as edges on the UTC line: right on days of 23 and 25 hours.

They are made here once, from `zoneinfo`, and not left to a frame library: zones are where those
differ (bots.md 5).
"""

from __future__ import annotations

import difflib
import itertools
import zoneinfo
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Final

import numpy as np

from botbook._errors import ConfigError

__all__ = [
    "FREQS",
    "MICROS",
    "MOST_DRAWN",
    "NEVER",
    "Buckets",
    "buckets",
    "fitting",
    "freq_named",
    "local",
    "micros",
    "midnight",
    "moment",
    "nearest",
    "positive",
    "zone_named",
]

MICROS: Final = 1_000_000
#: Bucket → its usual length in seconds.
FREQS: Final[dict[str, int]] = {
    "s": 1,
    "10s": 10,
    "min": 60,
    "h": 3_600,
    "D": 86_400,
    "W": 7 * 86_400,
    "M": 30 * 86_400,
}
NEVER: Final = int(np.iinfo(np.int64).max)
MAX_BUCKETS: Final = 50_000
#: Buckets that a picture without a wish has at most.
MOST_DRAWN: Final = 90
FOUR_WEEKS: Final = 28 * FREQS["D"]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER: Final = 15 * 60 * MICROS  # zones of our time change on a quarter of an hour

Ints = np.ndarray[Any, np.dtype[np.int64]]


def zone_named(name: str) -> tzinfo:
    """A time zone by its IANA name.

    Raises:
        ConfigError: There is no such zone; the hint names the nearest.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        known = sorted(zoneinfo.available_timezones())
        raise ConfigError(f"there is no time zone {name!r}", hint=nearest(str(name), known)) from None


def freq_named(freq: str | None) -> str:
    """A bucket by its letter; either case, None for one bucket over everything.

    Raises:
        ConfigError: It is none of `FREQS`.
    """
    for known in FREQS:
        if freq and freq.lower() == known.lower():
            return known
    if freq:
        raise ConfigError(f"there is no bucket {freq!r}", hint=f"One of {', '.join(FREQS)}, or None.")
    return ""


def fitting(seconds: float, *, usual: str = "D", most: int = MOST_DRAWN) -> str:
    """The bucket for a picture of so much time: the finest of which there are not too many.

    Args:
        seconds: From the first row to the last.
        usual: ``W`` for what is told by weeks: then nothing finer than a day, and days under four weeks.
        most: Buckets there may be.
    """
    if usual == "W" and seconds >= FOUR_WEEKS:
        known = ["W", "M"]
    else:
        known = [name for name in FREQS if usual != "W" or FREQS[name] >= FREQS["D"]]
    return next((name for name in known if seconds <= FREQS[name] * most), "M")


def nearest(name: str, known: list[str]) -> str:
    """A hint that names what was probably meant."""
    lower = {k.lower(): k for k in known} | {k.rsplit("/", 1)[-1].lower(): k for k in known}
    match = difflib.get_close_matches(name.lower().replace(" ", "_"), lower, n=1, cutoff=0.5)
    return f"Did you mean {lower[match[0]]!r}?" if match else f"For example {known[0]!r}."


def micros(at: datetime) -> int:
    """Microseconds since 1970, of a time with a zone."""
    return (at - EPOCH) // timedelta(microseconds=1)


def moment(at_us: int) -> datetime:
    """The time in UTC, of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=int(at_us))


def local(at_us: int, zone: tzinfo) -> datetime:
    """The clock on the wall there."""
    return moment(at_us).astimezone(zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Half-open, gapless pieces of time.

    Attributes:
        edges: n+1 rising times, in microseconds since 1970.
        labels: n names in local time.
    """

    edges: Ints
    labels: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, at_us: Ints) -> Ints:
        """Which bucket each time falls into."""
        return np.searchsorted(self.edges, at_us, side="right").astype(np.int64) - 1

    def hours(self) -> list[float]:
        """True length of each, in hours."""
        return [float(length) / 3_600 / MICROS for length in np.diff(self.edges)]

    def overlap_s(self, spans: Iterable[tuple[int, int]]) -> list[float]:
        """Seconds of each bucket that lie in one of `spans`, which must not overlap."""
        covered = np.zeros(len(self), dtype=np.int64)
        for start, end in spans:
            low, high = np.clip(self.edges[:-1], start, end), np.clip(self.edges[1:], start, end)
            covered += high - low
        return [float(c) / MICROS for c in covered]


def buckets(first_us: int, last_us: int, *, freq: str, zone: tzinfo) -> Buckets:
    """The buckets that hold two times and all between.

    Args:
        first_us: Microseconds since 1970.
        last_us: The same, not before `first_us`.
        freq: One of `FREQS`, or "" for one bucket.
        zone: Whose days and hours.

    Raises:
        ConfigError: There would be more than 50,000.
    """
    if not freq:
        return Buckets(edges=np.array([first_us, last_us + 1], dtype=np.int64), labels=["all"])
    if (last_us - first_us) / MICROS / FREQS[freq] > MAX_BUCKETS:
        raise ConfigError(
            f"{moment(first_us):%Y-%m-%d} to {moment(last_us):%Y-%m-%d} is too long for buckets of {freq!r}",
            hint="Use a coarser freq, or leave out the rows with a wrong clock.",
        )
    if FREQS[freq] < FREQS["h"]:
        starts = _steps(first_us, FREQS[freq] * MICROS, zone)
    elif freq == "h":
        starts = _hours(first_us, last_us, zone)
    else:
        starts = _days(first_us, last_us, freq, zone)
    edges: list[int] = []
    labels: list[str] = []
    for start, label in starts:
        if edges and start <= edges[-1]:  # a day that a zone skipped has no length
            edges.pop(), labels.pop()
        edges.append(start)
        labels.append(label)
        if start > last_us:
            break
    return Buckets(edges=np.array(edges, dtype=np.int64), labels=labels[:-1])


def _days(first_us: int, last_us: int, freq: str, zone: tzinfo) -> Iterator[tuple[int, str]]:
    day = _floor(local(first_us, zone).date(), freq)
    if micros(midnight(day, zone)) > first_us:  # the clock went back over midnight
        day = _floor(day - timedelta(days=1), freq)
    while True:
        yield micros(midnight(day, zone)), _label(day, freq)
        day = _next(day, freq)


def _floor(day: date, freq: str) -> date:
    if freq == "W":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if freq == "M" else day


def midnight(day: date, zone: tzinfo) -> datetime:
    """When a local day begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _next(day: date, freq: str) -> date:
    if freq == "M":
        return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return day + timedelta(days=7 if freq == "W" else 1)


def _label(day: date, freq: str) -> str:
    if freq == "W":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02d}"
    return day.isoformat()[:7] if freq == "M" else day.isoformat()


def _steps(first_us: int, step: int, zone: tzinfo) -> Iterator[tuple[int, str]]:
    """Seconds and minutes: the same in every zone of our time, which all keep to quarters of an hour."""
    for at in itertools.count(first_us // step * step, step):
        yield at, local(at, zone).isoformat(timespec="seconds")


def _hours(first_us: int, last_us: int, zone: tzinfo) -> Iterator[tuple[int, str]]:
    """Every start of a local hour; one that a zone repeats comes twice."""
    at = _hour_start(first_us, zone)
    while True:
        here = local(at, zone)
        yield at, here.isoformat(timespec="minutes")
        at = _hour_end(at, zone)


def _same_hour(one: int, other: int, zone: tzinfo) -> bool:
    a, b = local(one, zone), local(other, zone)
    return (a.date(), a.hour, a.utcoffset()) == (b.date(), b.hour, b.utcoffset())


def _hour_start(at: int, zone: tzinfo) -> int:
    here = local(at, zone)
    start = at - ((here.minute * 60 + here.second) * MICROS + here.microsecond)
    while not _same_hour(start, at, zone):
        start += QUARTER
    return min(start, at)


def _hour_end(at: int, zone: tzinfo) -> int:
    end = at + QUARTER
    while _same_hour(at, end, zone):
        end += QUARTER
    return end


def positive(name: str, seconds: float) -> float:
    """A length of time as a parameter.

    Args:
        name: Of the parameter.
        seconds: Its value.

    Raises:
        ConfigError: It is no number above 0.
    """
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < float("inf"):
        raise ConfigError(f"{name}={seconds!r} is no number of seconds above 0", hint="For example 1800.")
    return float(seconds)
