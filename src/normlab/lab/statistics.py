"""Means, intervals and paired differences over seeds, by SciPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; without an interval when there is one value."""

    mean: float
    low: float | None
    high: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of independent values and its t interval; None of no values.

    Source:
        Student 1908; `scipy.stats.t.interval`.

    Example:
        >>> e = estimate([1.0, 2.0, 3.0])
        >>> e.mean, round(e.low, 3), round(e.high, 3)
        (2.0, -0.484, 4.484)
    """
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, None, None, 1)
    if len(set(values)) == 1:  # SciPy's interval of no spread is not a number
        return Estimate(mean, mean, mean, len(values))
    from scipy import stats  # half a second to load, which every process of a run would take

    low, high = stats.t.interval(CONFIDENCE, len(values) - 1, loc=mean, scale=stats.sem(values))
    return Estimate(mean, float(low), float(high), len(values))


def paired_difference(a: Sequence[float | None], b: Sequence[float | None]) -> Estimate | None:
    """The mean of a − b over the places where both have a value, and its t interval."""
    return estimate([x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None])
