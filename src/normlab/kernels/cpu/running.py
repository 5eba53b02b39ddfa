"""Running statistics on the processor, moved towards those of a batch that a kernel found."""

import torch
from torch import Tensor

from normlab.kernels.cpu import compiled, team
from normlab.kernels.cpu.elements import ZERO


def serves(mean: Tensor, var: Tensor, commits: Tensor, statistics: Tensor) -> bool:
    """Whether these can be read and written as they lie in memory."""
    return (
        mean.dtype == var.dtype == statistics.dtype and mean.shape == var.shape == statistics.shape[1:]
        and mean.is_cpu and var.is_cpu and commits.is_cpu and commits.dtype == torch.int64
        and mean.is_contiguous() and var.is_contiguous()
    )  # fmt: skip


def move(mean: Tensor, var: Tensor, commits: Tensor, statistics: Tensor, momentum: float, count: int) -> bool:
    """Takes a share of the statistics of a batch and counts that, unless they are not finite.

    It goes around the versions of the buffers: what is kept of them for backward may be overwritten by the next
    forward, as it is not used in training. In NumPy it cost 100 µs after a large kernel, which leaves nothing in the
    caches.

    Args:
        mean: running mean, which `serves` has nothing against, as the others.
        var: running variance.
        commits: how often this was done.
        statistics: (4, C), as the kernel returns them.
        momentum: the share.
        count: values behind each of the statistics.
    """
    kernel = compiled.address("running", "move", ZERO[mean.dtype])
    new = statistics.data_ptr()
    var_at = new + 3 * mean.numel() * mean.element_size()
    unbiased = team.bits(count / (count - 1))
    buffers = mean.data_ptr(), var.data_ptr(), commits.data_ptr()
    return team.alone(kernel, mean.numel(), team.bits(momentum), unbiased, *buffers, new, var_at) == 1
