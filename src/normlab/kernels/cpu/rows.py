"""Layer norm and RMS norm of (R, D) on the processor, by one kernel: from tensors to it and back."""

import math
from functools import lru_cache
from typing import NamedTuple

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
    plan = _plan(where, "forward", x.shape, x.dtype, dims, team.size())
    weight = launch.parameter(where, "weight", weight, x, plan.length)
    bias = launch.parameter(where, "bias", bias, x, plan.length)
    y, statistics = alloc.empty_like(x), alloc.empty(4, plan.rows, dtype=plan.wide)
    tensors = at(x), at(y), at(weight), at(bias), at(statistics)
    team.run(plan.kernel, plan.threads, *plan.schedule, team.bits(eps), *tensors)
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
    plan = _plan(where, "backward", x.shape, x.dtype, dims, team.size())
    dy, weight = launch.above(dy, x), launch.parameter(where, "weight", weight, x, plan.length)
    dx, gradients = alloc.empty_like(x), alloc.empty(plan.parameters, plan.length, dtype=plan.wide)
    sums = team.scratch(16 * plan.threads * plan.parameters * launch.lines(plan.length))
    tensors = at(dy), at(x), at(dx), at(weight), at(statistics), at(gradients), sums
    team.run(plan.kernel, plan.threads, *plan.schedule, *tensors, 0)
    return dx, gradients


class _Plan(NamedTuple):
    """All of a call but the tensors."""

    kernel: int
    threads: int
    rows: int
    length: int
    parameters: int
    wide: torch.dtype
    schedule: tuple[int, int, int, bool, bool]  # rows, length, rows at a time, four share loads, past the caches


@lru_cache(4096)
def _plan(where: str, which: str, shape: tuple[int, ...], dtype: torch.dtype, dims: int, threads: int) -> _Plan:
    like = torch.empty(shape, dtype=dtype, device="meta")
    length = math.prod(shape[like.ndim - dims :])
    rows, fours = like.numel() // length, length > FOURS
    near = NEAR_FOURS if fours else NEAR if like.nbytes < LARGE else NEAR_LARGE
    past = launch.past(like, length, launch.PAST if which == "forward" else launch.PAST_BACK)
    schedule = rows, length, max(LEAST, min(MOST, near // length)), fours, past
    kernel = compiled.address("layer_norm", which, ZERO[dtype], ZERO[wide(like)], where == "layer_norm")
    parameters = 2 if where == "layer_norm" else 1
    return _Plan(kernel, launch.threads(like, rows, threads), rows, length, parameters, wide(like), schedule)
