"""Counting tensors on the fixed grid.

Values are binned in float32: one that lies within rounding of an edge may fall on either side of it.
"""

import torch

from normlab.lab.grid import BINS, LIMIT, REACH, Histogram

_BELOW, _ABOVE, _NONFINITE, _SLOTS = BINS, BINS + 1, BINS + 2, BINS + 3


def histograms(rows: torch.Tensor) -> list[Histogram]:
    """One histogram for each row, all of them in a single pass.

    Shape:
        rows: (R, S).

    Example:
        >>> counted, = histograms(torch.tensor([[0.0, 0.01, 2e4, float("nan")]]))
        >>> int(counted.counts[128]), counted.above, counted.nonfinite
        (2, 1, 1)
    """
    if rows.dtype == torch.float64:  # too large for float32 is above the grid, not infinite
        largest = torch.finfo(torch.float32).max
        rows = torch.where(rows.isinf(), rows, rows.clamp(-largest, largest))
    values = rows.to(torch.float32)
    size = values.abs()
    # asinh written out: torch.asinh is not vectorized (8.8 ms against 1.5 for 3e5 values)
    slot = size.square().add_(1).sqrt_().add_(size).log_().copysign_(values)
    slot.mul_(BINS / (2 * REACH)).add_(BINS / 2).clamp_(0, BINS - 1)  # in this order 0 falls on its edge exactly
    if values.numel() and not bool(size.max() <= LIMIT):
        slot[values < -LIMIT] = _BELOW
        slot[values > LIMIT] = _ABOVE
        slot[~values.isfinite()] = _NONFINITE
    owner = torch.arange(len(rows), dtype=torch.int32)[:, None] * _SLOTS
    place = slot.to(torch.int32).add_(owner).flatten()
    counts = torch.bincount(place, minlength=len(rows) * _SLOTS).view(-1, _SLOTS).numpy()
    return [Histogram(row[:BINS], int(row[_BELOW]), int(row[_ABOVE]), int(row[_NONFINITE])) for row in counts]
