"""Layer norm and RMS norm of (R, D) on the processor, by one kernel: from tensors to it and back."""

import math

import torch
from torch import Tensor

from normlab.kernels import alloc
from normlab.kernels.cpu import compiled, launch, team
from normlab.kernels.cpu.elements import ZERO, at, wide

FOURS = 1024
NEAR, NEAR_LARGE, NEAR_FOURS = 4096, 1024, 32768
LARGE = 16 << 20
LEAST, MOST = 4, 16


def rows_fwd(
    where: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: int, eps: float
) -> tuple[Tensor, Tensor]:
    """y, and the statistics (4, R): mean, what float32 leaves out of it, 1 / √(var + eps), biased variance.

    Args:
        where: `layer_norm`, or `rms_norm`, whose mean is 0 and whose variance the mean square.
        x: contiguous values.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        dims: how many dimensions make up a row, the last ones.
        eps: added to the variance.
    """
    rows, length = _shape(x, dims)
    weight = launch.parameter(where, "weight", weight, x, length)
    bias = launch.parameter(where, "bias", bias, x, length)
    y, statistics = alloc.empty_like(x), alloc.empty(4, rows, dtype=wide(x))
    kernel, threads = _kernel(where, "forward", x), launch.threads(x, rows)
    tensors = at(x), at(y), at(weight), at(bias), at(statistics)
    team.run(kernel, threads, *_schedule(y, rows, length, launch.PAST), team.bits(eps), *tensors)
    return y, statistics


def rows_bwd(
    where: str, dy: Tensor, x: Tensor, weight: Tensor | None, statistics: Tensor, dims: int
) -> tuple[Tensor, Tensor]:
    """dx, and the gradients of the parameters: (2, D), weight and bias, or for RMS norm (1, D).

    Args:
        where: as in the forward, as are x, weight and dims.
        dy: from above.
        x: the values.
        weight: scale, or None for 1.
        statistics: which the forward returned.
        dims: how many dimensions make up a row.
    """
    rows, length = _shape(x, dims)
    dy, weight = launch.above(dy, x), launch.parameter(where, "weight", weight, x, length)
    threads, parameters = launch.threads(x, rows), 2 if where == "layer_norm" else 1
    dx, gradients = alloc.empty_like(x), alloc.empty(parameters, length, dtype=wide(x))
    sums = alloc.empty(threads, 2, parameters * launch.lines(length), dtype=torch.float64)
    tensors = at(dy), at(x), at(dx), at(weight), at(statistics), at(gradients), at(sums)
    team.run(_kernel(where, "backward", x), threads, *_schedule(dx, rows, length, launch.PAST_BACK), *tensors, 0)
    return dx, gradients


def _shape(x: Tensor, dims: int) -> tuple[int, int]:
    """Rows, and how long they are."""
    length = math.prod(x.shape[x.ndim - dims :])
    return x.numel() // length, length


def _schedule(y: Tensor, rows: int, length: int, past: int) -> tuple[int, int, int, bool, bool]:
    """What the kernel is told first: the shape, rows at a time, whether four share loads, whether past the caches."""
    fours = length > FOURS
    near = NEAR_FOURS if fours else NEAR if y.numel() * y.element_size() < LARGE else NEAR_LARGE
    return rows, length, max(LEAST, min(MOST, near // length)), fours, launch.past(y, length, past)


def _kernel(where: str, which: str, x: Tensor) -> int:
    return compiled.address("layer_norm", which, ZERO[x.dtype], ZERO[wide(x)], where == "layer_norm")
