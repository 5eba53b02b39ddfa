"""What the launchers of norms over rows and groups share: threads, parameters, and where outputs go."""

from functools import lru_cache

import torch
from torch import Tensor

from normlab import errors
from normlab.kernels.activation import NOTHING, After
from normlab.kernels.cpu.elements import ZERO, wide

LANES = 16  # as in the kernels: numbers that are loaded and stored at once
LINE = 16  # as in the kernels: what a thread sums up for itself is a multiple of so many numbers
# Bytes from which y, or dx, goes past the caches. Two threads; with the next read of it at once. Layer norm of rows of
# 768: forward of 12 MB 0.90 ms in the place of 0.86, of 16 MB 1.21 of 1.34; backward of 6 MB 0.49 of 0.50, of 8 MB 0.74
# of 0.84. Group norm of 32 × 32 pictures, 32 groups: forward of 16 MB 1.20 of 1.10, of 24 MB 2.0 of 2.1.
PAST, PAST_BACK = 16 << 20, 8 << 20
GRAIN = 1 << 14


def why_not(x: Tensor, after: After = NOTHING) -> str:
    """Why there is no kernel for a tensor: they take numbers that lie in order, without gaps."""
    if x.dtype not in ZERO:
        return f"it is of {x.dtype}"
    if not x.numel():
        return "it is empty"
    if not x.is_contiguous():
        return "it is not contiguous"
    return "" if after == NOTHING else "nothing may follow this norm"


def threads(x: Tensor, sets: int, most: int) -> int:
    """How many threads share the sets of a tensor."""
    return max(1, min(most, sets, x.numel() // GRAIN))


def parameter(where: str, name: str, given: Tensor | None, x: Tensor, count: int) -> Tensor:
    """A weight or bias, as the kernels read it; None for 1 or 0 everywhere."""
    dtype = wide(x)
    if given is None:
        return _constant(count, 1.0 if name == "weight" else 0.0, dtype)
    if given.numel() != count or given.device != x.device:  # a kernel would read on, wherever that is
        rule = f"`{name}` must have {count} entries, and lie where `x` does."
        errors.invalid_input(where, [errors.Problem(rule, errors.describe(**{name: given, "x": x}))])
    return given if given.dtype == dtype and given.is_contiguous() else given.detach().to(dtype).contiguous()


@lru_cache(16)
def _constant(count: int, value: float, dtype: torch.dtype) -> Tensor:
    return torch.full((count,), value, dtype=dtype, device="cpu")


def above(dy: Tensor, x: Tensor) -> Tensor:
    """What comes from above, as the kernels read it."""
    if dy.dtype == x.dtype and dy.is_contiguous() and not (dy.is_neg() or dy._is_zerotensor()):
        return dy
    return torch.empty_like(x).copy_(dy)


def past(y: Tensor, run: int, least: int) -> bool:
    """Whether an output goes past the caches: of so many bytes, its runs so long that they consist of full vectors."""
    return y.nbytes >= least and run % LANES == 0


def lines(count: int) -> int:
    """So many numbers, up to full lines."""
    return -(-count // LINE) * LINE
