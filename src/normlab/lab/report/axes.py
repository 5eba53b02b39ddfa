"""Choices about axes that several charts share."""

import math
from collections.abc import Iterable, Sequence

import altair as alt

LOG_DECADES = 1.5  # values that span more are drawn on a logarithmic axis


def log_axis(values: Iterable[float | None]) -> bool:
    """Whether a logarithmic axis helps: every value positive, and more than one and a half decades between them.

    Example:
        >>> log_axis([1.0, 40.0]), log_axis([1.0, 30.0]), log_axis([0.0, 40.0])
        (True, False, False)
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    return bool(known) and min(known) > 0 and math.log10(max(known) / min(known)) > LOG_DECADES


def epoch_axis(last: int, title: str | None = "epoch", most: int = 6) -> alt.Axis:
    """Ticks at whole epochs.

    Example:
        >>> epoch_axis(15).values, epoch_axis(2).values
        ([0, 3, 6, 9, 12, 15], [0, 1, 2])
    """
    return alt.Axis(title=title, values=list(whole_ticks(last, most)), format="d", grid=False)


def whole_ticks(last: int, most: int) -> Sequence[int]:
    """At most `most` round whole numbers from 0 to `last`."""
    for power in range(12):
        for factor in (1, 2, 3, 5):
            step = factor * 10**power
            if last // step + 1 <= most:
                return range(0, last + 1, step)
    return [0]


def whole_width(room: float, steps: int) -> int:
    """The largest width up to `room` with the same whole number of pixels for every step: cells without seams.

    Example:
        >>> whole_width(126, 16), whole_width(50, 400)
        (112, 50)
    """
    return int(room // steps) * steps if room >= steps else int(room)


def log_ticks(values: Iterable[float]) -> list[float]:
    """Round values on a logarithmic axis: 1, 2 and 5 of each decade, or powers of ten if there are many.

    Example:
        >>> log_ticks([0.03, 0.6]), log_ticks([3.0, 2e6])
        ([0.05, 0.1, 0.2, 0.5], [10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0])
    """
    known = list(values)
    low, high = min(known), max(known)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    skip = max(1, (last - first) // 8)
    ticks = [float(f"{factor}e{power}") for power in range(first, last + 1, skip) for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def overlap(width: int, steps: int) -> float:
    """How far a cell reaches into the next, in steps: half a pixel where cells end between pixels, which would show.

    Example:
        >>> overlap(96, 16), overlap(50, 100)
        (0.0, 1.0)
    """
    return 0.0 if width % steps == 0 else 0.5 * steps / width
