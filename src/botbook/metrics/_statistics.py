"""Intervals and percentiles, by hand: scipy is not needed to run."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Final

import numpy as np

__all__ = ["NAN", "Z95", "percentiles", "rate", "wilson"]

NAN: Final = float("nan")
Z95: Final = NormalDist().inv_cdf(0.975)


def rate(hits: float, of: float) -> float:
    """A share; NaN where there is nothing to share, never 0 or 1 (bots.md 3b)."""
    return hits / of if of else NAN


def wilson(hits: float, of: float, *, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, 1927).

    Args:
        hits: How many did.
        of: How many could.
        z: Normal quantile; default 95 %.

    Returns:
        Low and high end, within 0..1; NaN twice without any.
    """
    if not of:
        return NAN, NAN
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    low = 0.0 if hits <= 0 else middle - half
    high = 1.0 if hits >= of else middle + half
    return low, high


def percentiles(values: Any, at: tuple[float, ...]) -> list[float]:
    """Exact percentiles by linear interpolation; NaN without values.

    Args:
        values: Numbers.
        at: Which, in 0..100.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return [NAN] * len(at)
    return [float(p) for p in np.percentile(values, at)]
