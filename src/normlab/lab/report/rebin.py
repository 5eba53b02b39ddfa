"""From counts on the asinh grid to shares on a linear axis.

Drawn on the grid's own axis a normal distribution has two humps, because bins widen away from zero. A picture
therefore takes, for each cell of a linear axis, the counts that fall into it (a bin that two cells share is split in
proportion), so that colour and height are densities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from normlab.lab.grid import EDGES, Histogram

CELLS = 48
CENTRAL = 0.99  # share of the values that an axis must show
NARROWEST = 0.8  # ten bins at zero: a narrower axis would show the grid, not the distribution
EVERYWHERE = (-math.inf, math.inf)
# where an activation can be: a bin that reaches beyond holds values from inside only
SUPPORT = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "relu": (0.0, math.inf)}

Range = tuple[float, float]


@dataclass(frozen=True)
class Strip:
    """One distribution on a linear axis: the share of the values in each cell, and what the axis does not show.

    Shape:
        shares: (48,), of all values that were counted; with `outside` and `nonfinite` they sum to one.
    """

    shares: np.ndarray
    outside: float
    nonfinite: float


def rebin(counted: Histogram, span: Range, support: Range = EVERYWHERE, cells: int = CELLS) -> Strip:
    """The share of the values in each of the equal cells of `span`.

    Example:
        >>> counts = np.zeros(256, dtype=np.int64)
        >>> counts[128] = 10  # from 0 to 0.077
        >>> strip = rebin(Histogram(counts, nonfinite=10), (-1.0, 1.0), cells=2)
        >>> strip.shares.tolist(), strip.outside, strip.nonfinite
        ([0.0, 0.5], 0.0, 0.5)
    """
    total = counted.total()
    if not total:
        return Strip(np.zeros(cells), 0.0, 0.0)
    edges, cumulative = _cumulative(counted, support)
    reached = np.interp(np.linspace(*span, cells + 1), edges, cumulative)
    finite = total - counted.nonfinite
    outside = finite - (reached[-1] - reached[0])
    return Strip(np.diff(reached) / total, float(outside) / total, counted.nonfinite / total)


def central_range(counted: Histogram, support: Range = EVERYWHERE, share: float = CENTRAL) -> Range | None:
    """Where the central share of the finite values lies; None if there are none."""
    finite = counted.total() - counted.nonfinite
    if not finite:
        return None
    edges, cumulative = _cumulative(counted, support)
    tail = finite * (1 - share) / 2
    # of a level stretch, where no bin has values, the end that is nearer to the middle
    low = _position(edges, cumulative, tail, int(np.searchsorted(cumulative, tail, side="right")))
    high = _position(edges, cumulative, finite - tail, int(np.searchsorted(cumulative, finite - tail, side="left")))
    return low, high


def axis_range(ranges: Sequence[Range]) -> Range:
    """One axis for all of these ranges: a little room, round ends, no narrower than the grid can resolve.

    Example:
        >>> axis_range([(-2.5, 2.6), (-0.3, 0.1)]), axis_range([(0.0, 0.0)])
        ((-2.7, 2.8), (-0.4, 0.4))
    """
    low = min((low for low, _ in ranges), default=-1.0)
    high = max((high for _, high in ranges), default=1.0)
    room = max(0.02 * (high - low), (NARROWEST - (high - low)) / 2)
    step = 10.0 ** (math.floor(math.log10(high - low + 2 * room)) - 1)
    down, up = math.floor((low - room) / step + 1e-9), math.ceil((high + room) / step - 1e-9)
    return round(down * step, 9), round(up * step, 9)


def _cumulative(counted: Histogram, support: Range) -> tuple[np.ndarray, np.ndarray]:
    """Edges inside the support, and how many values lie below each."""
    edges = np.clip(EDGES, *support)
    inside = np.flatnonzero(np.diff(edges) > 0)
    first, last = int(inside[0]), int(inside[-1])
    counts = counted.counts[first : last + 1].astype(np.float64)
    counts[0] += counted.counts[:first].sum()
    counts[-1] += counted.counts[last + 1 :].sum()
    return edges[first : last + 2], counted.below + np.concatenate([[0.0], np.cumsum(counts)])


def _position(edges: np.ndarray, cumulative: np.ndarray, amount: float, index: int) -> float:
    """The value below which `amount` values lie, inside the bin that ends at `index`; the end of the grid beyond it."""
    if index == 0 or index == len(edges):
        return float(edges[0] if index == 0 else edges[-1])
    part = (amount - cumulative[index - 1]) / (cumulative[index] - cumulative[index - 1])
    return float(edges[index - 1] + part * (edges[index] - edges[index - 1]))
