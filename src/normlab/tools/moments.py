"""Mean, variance and count of each channel, in float64, and how those of several batches become one."""

import functools
from collections.abc import Iterable

import torch

from normlab.ops.moments import Moments as Moments
from normlab.ops.moments import merge as merge
from normlab.ops.moments import unbiased


def moments_of(x: torch.Tensor, channel_dim: int = 1) -> Moments:
    """Mean, unbiased variance and count of each channel.

    Shape:
        x: channels on `channel_dim`, any other dimensions; without values the count is 0.

    Example:
        >>> moments_of(torch.tensor([[1.0], [2.0], [6.0]]))
        Moments(mean=tensor([3.], dtype=torch.float64), var=tensor([7.], dtype=torch.float64), count=3)
    """
    channels = x.shape[channel_dim]
    count = x.numel() // max(channels, 1)
    if not count:
        nothing = torch.zeros(channels, dtype=torch.float64)
        return Moments(nothing, nothing, 0)
    others = [each for each in range(x.ndim) if each != channel_dim % x.ndim]
    var, mean = torch.var_mean(in_float64(x), others, correction=0)
    return Moments(mean, unbiased(var, count), count)


def in_float64(x: torch.Tensor) -> torch.Tensor:
    """The same values, on a device that has float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def pooled(parts: Iterable[Moments]) -> Moments:
    """The moments of all values together: each part counts by its values, and the spread of the means adds to the
    variance (law of total variance)."""
    return functools.reduce(merge, parts)


def averaged(parts: Iterable[Moments]) -> Moments:
    """The mean of the means and the mean of the unbiased variances, whatever the counts.

    Source:
        Ioffe & Szegedy 2015, algorithm 2.
    """
    means, variances, counts = zip(*parts, strict=True)
    return Moments(torch.stack(means).mean(0), torch.stack(variances).mean(0), sum(counts))


def moving(parts: Iterable[Moments], momentum: float | None) -> Moments:
    """The moving average in the order of the parts, which starts from the first.

    Args:
        parts: at least one.
        momentum: weight of the newest, as in PyTorch; None for the average of all so far.

    Example:
        >>> steps = [Moments(torch.tensor([mean]), torch.ones(1), 2) for mean in (0.0, 10.0, 10.0)]
        >>> moving(steps, 0.5).mean, moving(steps, None).mean
        (tensor([7.5000]), tensor([6.6667]))
    """
    first, *rest = parts
    mean, var, count = first
    for seen, part in enumerate(rest, start=2):
        weight = 1 / seen if momentum is None else momentum
        mean, var, count = mean.lerp(part.mean, weight), var.lerp(part.var, weight), count + part.count
    return Moments(mean, var, count)
