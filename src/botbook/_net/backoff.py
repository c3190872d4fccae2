"""How long to wait before the next try."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["FACTOR", "FIRST", "LIMIT", "backoff", "retry_after"]

#: First step, growth and last step, in seconds: 1, 2, 4 … 60 (protocols/miti.md 3).
FIRST: Final = 1.0
FACTOR: Final = 2.0
LIMIT: Final = 60.0

#: What a peer may ask for at the most, in seconds.
_LONGEST_WISH: Final = 300.0


def backoff(
    rng: random.Random, *, first: float = FIRST, factor: float = FACTOR, limit: float = LIMIT
) -> Iterator[float]:
    """Delays for one try after another, each drawn between half and the whole of its step.

    The jitter keeps clients that were dropped together from coming back together
    (protocols/miti.md 10, defect 11).

    Args:
        rng: Source of chance.
        first: First step, in seconds.
        factor: Growth of the step.
        limit: Last step, in seconds.

    Yields:
        Delays in seconds, for ever.
    """
    step = min(first, limit)
    while True:
        yield rng.uniform(step / 2, step)
        step = min(step * factor, limit)


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """Read a ``Retry-After`` header.

    Args:
        value: Seconds or an HTTP date; None if there was no such header.
        now: For a date, in UTC with zone.

    Returns:
        Seconds between 0 and 300; None if there is nothing to read.
    """
    if value is None:
        return None
    seconds = _seconds(value, now)
    return min(max(seconds, 0.0), _LONGEST_WISH) if math.isfinite(seconds) else None


def _seconds(value: str, now: datetime) -> float:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return math.nan
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
