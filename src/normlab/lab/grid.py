"""One fixed grid of bins, the same for every layer, batch and run, so that counts add and runs compare.

The 257 edges are spaced evenly in asinh: nearly even below 1, nearly logarithmic above, ±1e4 at the ends. A bin
at value v is about 0.077 · sqrt(1 + v²) wide. What lies beyond the ends, and what is not finite, is counted too.
"""

from dataclasses import dataclass

import numpy as np

BINS = 256
LIMIT = 1e4
REACH = float(np.arcsinh(LIMIT))
EDGES = np.sinh(np.linspace(-REACH, REACH, BINS + 1))


@dataclass(frozen=True)
class Histogram:
    """How many values fell into each bin.

    Shape:
        counts: (256,) integers, bin i from EDGES[i] to EDGES[i + 1].
    """

    counts: np.ndarray
    below: int = 0
    above: int = 0
    nonfinite: int = 0

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(
            self.counts + other.counts,
            self.below + other.below,
            self.above + other.above,
            self.nonfinite + other.nonfinite,
        )

    def total(self) -> int:
        """Every value that was counted, wherever it fell."""
        return int(self.counts.sum()) + self.below + self.above + self.nonfinite
