"""Group norm and instance norm on the processor: from tensors to the kernel and back."""

import torch
from torch import Tensor

from normlab.kernels import alloc
from normlab.kernels.activation import NOTHING, After
from normlab.kernels.cpu import compiled, launch, team
from normlab.kernels.cpu.elements import ZERO, at, wide

NEAR = 1024
# From so many values on forward and backward are faster than PyTorch's, on two threads: 2.7 ms against 3.5 at
# (4, 64, 128, 128) with 16 groups, but 1.2 against 0.9 at (32, 256, 14, 14); of instance norm 0.14 against 0.21 at
# (16, 32, 16, 16).
WORTH, WORTH_ALONE = 1 << 22, 1 << 17
RUN = 16


def why_not(x: Tensor, groups: int, after: After = NOTHING) -> str:
    """Why there is no kernel for this; nothing if there is."""
    if reason := launch.why_not(x, after):
        return reason
    return "" if x.ndim > 1 and x.shape[1] % groups == 0 else "its channels make no such groups"


def least(x: Tensor, groups: int, after: After = NOTHING, given: bool = False) -> int:
    """From how many values on it is faster than PyTorch's, with all that comes with a call."""
    return WORTH_ALONE if groups == x.shape[1] else WORTH


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
    sets, channels, length = _shape(x, groups)
    every = groups * channels
    weight = launch.parameter("group_norm", "weight", weight, x, every)
    bias = launch.parameter("group_norm", "bias", bias, x, every)
    y, statistics = alloc.empty_like(x), alloc.empty(4, sets, dtype=wide(x))
    together = max(1, min(launch.LANES, 4096 // (channels * length)))
    lies = sets, groups, channels, length, together, launch.past(y, length, launch.PAST)
    tensors = at(x), at(y), at(weight), at(bias), at(statistics)
    team.run(_kernel("forward", x), launch.threads(x, sets), *lies, team.bits(eps), *tensors)
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
    sets, channels, length = _shape(x, groups)
    every = groups * channels
    dy, weight = launch.above(dy, x), launch.parameter("group_norm", "weight", weight, x, every)
    threads = launch.threads(x, sets)
    dx, gradients = alloc.empty_like(x), alloc.empty(2, every, dtype=wide(x))
    together = max(1, min(launch.LANES, 4096 // length) // channels)
    sums = alloc.empty(threads, launch.lines(2 * every) + 2 * launch.lines(channels), dtype=torch.float64)
    lies = sets, groups, channels, length, together, launch.past(dx, length, launch.PAST_BACK)
    tensors = at(dy), at(x), at(dx), at(weight), at(statistics), at(gradients), at(sums)
    team.run(_kernel("backward", x), threads, *lies, *tensors, 0)
    dweight, dbias = gradients.unbind()
    return dx, dweight, dbias


def _shape(x: Tensor, groups: int) -> tuple[int, int, int]:
    """Sets, channels of each, and positions of a channel."""
    samples, channels = x.shape[:2]
    return samples * groups, channels // groups, x.numel() // (samples * channels)


def _kernel(which: str, x: Tensor) -> int:
    return compiled.address("group_norm", which, ZERO[x.dtype], ZERO[wide(x)])
