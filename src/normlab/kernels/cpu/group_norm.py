"""Group norm and instance norm on the processor: from tensors to the kernel and back."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from normlab.kernels import alloc
from normlab.kernels.activation import NOTHING, After
from normlab.kernels.cpu import compiled, launch, team
from normlab.kernels.cpu.elements import ZERO, at, wide

# From so many values on forward and backward are faster than PyTorch's, on two threads and between other work: 0.88 and
# 1.6 ms against 0.95 and 4.6 at (4, 640, 32, 32) with 32 groups. Of short channels, or such that do not fill their
# vectors, it takes more: forward 0.41 against 0.36 at (4, 1280, 16, 16), 0.88 against 0.80 at (4, 2560, 16, 16), 0.35
# against 0.29 at (32, 256, 14, 14). Instance norm takes 67 and 160 µs against 133 and 218 at (8, 32, 16, 16).
WORTH, WORTH_SHORT, WORTH_ALONE = 1 << 21, 1 << 22, 1 << 16
SHORT = 512


def why_not(x: Tensor, groups: int, after: After = NOTHING) -> str:
    """Why there is no kernel for this; nothing if there is."""
    if reason := launch.why_not(x, after):
        return reason
    return "" if x.ndim > 1 and x.shape[1] % groups == 0 else "its channels make no such groups"


def least(x: Tensor, groups: int, after: After = NOTHING, given: bool = False) -> int:
    """From how many values on it is faster than PyTorch's, with all that comes with a call."""
    if groups == x.shape[1]:
        return WORTH_ALONE
    length = x[0, 0].numel()
    return WORTH_SHORT if length < SHORT or length % launch.LANES else WORTH


def group_norm_fwd(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor]:
    """y, and the statistics (4, N · G): mean, what float32 leaves out of it, 1 / √(var + eps), biased variance.

    Args:
        x: that `why_not` has nothing against.
        weight: scale of each channel, or None for 1.
        bias: shift of each channel, or None for 0.
        groups: of channels that follow one another; as many as channels for instance norm.
        eps: added to the variance.
    """
    plan = _plan("forward", x.shape, x.dtype, groups, team.size())
    weight = launch.parameter("group_norm", "weight", weight, x, plan.channels)
    bias = launch.parameter("group_norm", "bias", bias, x, plan.channels)
    y, statistics = alloc.empty_like(x), alloc.empty(4, plan.sets, dtype=plan.wide)
    tensors = at(x), at(y), at(weight), at(bias), at(statistics)
    team.run(plan.kernel, plan.threads, *plan.lies, team.bits(eps), *tensors)
    return y, statistics


def group_norm_bwd(
    dy: Tensor, x: Tensor, weight: Tensor | None, statistics: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dweight and dbias, by what the forward returned.

    Args:
        dy: from above.
        x: as in the forward, as are the others.
        weight: scale of each channel, or None for 1.
        statistics: which the forward returned.
        groups: of channels that follow one another.
    """
    plan = _plan("backward", x.shape, x.dtype, groups, team.size())
    dy, weight = launch.above(dy, x), launch.parameter("group_norm", "weight", weight, x, plan.channels)
    dx, gradients = alloc.empty_like(x), alloc.empty(2, plan.channels, dtype=plan.wide)
    tensors = at(dy), at(x), at(dx), at(weight), at(statistics), at(gradients), team.scratch(8 * plan.sums)
    team.run(plan.kernel, plan.threads, *plan.lies, *tensors, 0)
    dweight, dbias = gradients.unbind()
    return dx, dweight, dbias


class _Plan(NamedTuple):
    """All of a call but the tensors."""

    kernel: int
    threads: int
    sets: int
    channels: int
    wide: torch.dtype
    sums: int  # float64 numbers
    lies: tuple[int, int, int, int, int, bool]  # sets, groups, channels of each, positions, together, past the caches


@lru_cache(4096)
def _plan(which: str, shape: tuple[int, ...], dtype: torch.dtype, groups: int, threads: int) -> _Plan:
    like = torch.empty(shape, dtype=dtype, device="meta")
    sets, channels = shape[0] * groups, shape[1] // groups
    length = like.numel() // (shape[0] * shape[1])
    if which == "forward":
        together = max(1, min(launch.LANES, 4096 // (channels * length)))
    else:
        together = max(1, min(launch.LANES, 4096 // length) // channels)
    threads = launch.threads(like, sets, threads)
    past = launch.past(like, length, launch.PAST if which == "forward" else launch.PAST_BACK)
    kernel = compiled.address("group_norm", which, ZERO[dtype], ZERO[wide(like)])
    sums = threads * (launch.lines(2 * shape[1]) + 2 * launch.lines(channels))
    return _Plan(kernel, threads, sets, shape[1], wide(like), sums, (sets, groups, channels, length, together, past))
