"""Two arms side by side: Newcombe's interval, the bootstrap over users, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from botbook.metrics._statistics import NAN, percentiles, wilson

__all__ = ["Contrast", "Sample", "contrast_of_percentile", "contrast_of_shares", "holm"]

#: With fewer users there is nothing to draw from.
USERS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """An arm minus the base.

    Attributes:
        value: Of the arm.
        base_value: Of the base.
        difference: `value` minus `base_value`.
        low: Low end of its 95 % interval.
        high: High end.
        p: Two-sided p value.
    """

    value: float
    base_value: float
    difference: float
    low: float
    high: float
    p: float


def contrast_of_shares(arm: tuple[int, int], base: tuple[int, int]) -> Contrast:
    """The difference of two shares with Newcombe's hybrid score interval (R. G. Newcombe, 1998, method 10).

    Args:
        arm: Numerator and denominator.
        base: The same of the base.
    """
    if not arm[1] or not base[1]:
        value, base_value = (hits / of if of else NAN for hits, of in (arm, base))
        return Contrast(value=value, base_value=base_value, difference=NAN, low=NAN, high=NAN, p=NAN)
    one, two = arm[0] / arm[1], base[0] / base[1]
    (low1, high1), (low2, high2) = wilson(*arm), wilson(*base)
    return Contrast(
        value=one,
        base_value=two,
        difference=one - two,
        low=one - two - math.hypot(one - low1, high2 - two),
        high=one - two + math.hypot(high1 - one, two - low2),
        p=_pooled_p(arm, base),
    )


def _pooled_p(arm: tuple[int, int], base: tuple[int, int]) -> float:
    """Of the z test with the pooled share."""
    pooled = (arm[0] + base[0]) / (arm[1] + base[1])
    spread = math.sqrt(pooled * (1 - pooled) * (1 / arm[1] + 1 / base[1]))
    if not spread:
        return 1.0
    z = abs(arm[0] / arm[1] - base[0] / base[1]) / spread
    return 2 * (1 - NormalDist().cdf(z))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The turns of one arm.

    Attributes:
        values: One a turn.
        users: Number of the user of each.
    """

    values: Any
    users: Any


def contrast_of_percentile(
    arm: Sample, base: Sample, percent: float, *, draws: int, rng: np.random.Generator
) -> Contrast:
    """The difference of two percentiles, with an interval from drawing users and not turns.

    Turns of one user are not independent, and a user may be in both arms: so users are drawn with
    replacement, each with all their turns (bots.md 3c).

    Args:
        arm: Its turns.
        base: Those of the base.
        percent: In 0..100.
        draws: How often.
        rng: Chance.
    """
    (value,), (base_value,) = (percentiles(sample.values, (percent,)) for sample in (arm, base))
    users = np.unique(np.concatenate([arm.users, base.users]))
    found = np.array([])
    if len(users) >= USERS and len(arm.values) and len(base.values):
        sides = [_Sorted(sample, users) for sample in (arm, base)]
        found = np.array([_drawn(sides, len(users), percent, rng) for _ in range(draws)])
        found = found[~np.isnan(found)]
    low, high = percentiles(found, (2.5, 97.5))
    below, above = (int(np.sum(side)) for side in (found <= 0, found >= 0))
    p = min(1.0, 2 * (min(below, above) + 1) / (len(found) + 1)) if len(found) else NAN
    return Contrast(
        value=value, base_value=base_value, difference=value - base_value, low=low, high=high, p=p
    )


class _Sorted:
    """The turns of one arm in the order of their values, ready to be drawn many times."""

    def __init__(self, sample: Sample, users: Any) -> None:
        order = np.argsort(sample.values, kind="stable")
        self.values = np.asarray(sample.values, dtype=np.float64)[order]
        self.users = np.searchsorted(users, sample.users[order])

    def percentile(self, times: Any, percent: float) -> float:
        """With every turn as often as its user was drawn."""
        ends = np.cumsum(times[self.users])
        total = int(ends[-1])
        if not total:
            return NAN
        at = (total - 1) * percent / 100
        low, high = np.searchsorted(ends, [math.floor(at), math.ceil(at)], side="right")
        share = at - math.floor(at)
        return float(self.values[low] * (1 - share) + self.values[high] * share)


def _drawn(sides: Sequence[_Sorted], users: int, percent: float, rng: np.random.Generator) -> float:
    times = np.bincount(rng.integers(0, users, users), minlength=users)
    arm, base = (side.percentile(times, percent) for side in sides)
    return arm - base


def holm(values: Sequence[float]) -> list[float]:
    """P values corrected for their number (S. Holm, 1979); NaN stays and does not count."""
    known = sorted((value, k) for k, value in enumerate(values) if not math.isnan(value))
    made, largest = [NAN] * len(values), 0.0
    for rank, (value, k) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        made[k] = largest
    return made
