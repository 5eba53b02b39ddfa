"""Mean and variance that know how many values they stand for."""

from typing import NamedTuple

from torch import Tensor


class Moments(NamedTuple):
    """Of each channel, as `running_mean` and `running_var` hold them: the variance is the unbiased one.

    `count` is a number, or a tensor of float64 where a mask or another process has a say in it.
    """

    mean: Tensor
    var: Tensor
    count: Tensor | int  # type: ignore[assignment]  # hides a method of tuple that nobody needs


def merge(one: Moments, other: Moments) -> Moments:
    """The moments of all values from those of two parts; a part may be empty.

    Source:
        Chan, Golub & LeVeque (1979), equation 1.5.

    Example:
        >>> import torch
        >>> pair = Moments(torch.zeros(1), torch.tensor([2.0]), 2)
        >>> single = Moments(torch.tensor([3.0]), torch.zeros(1), 1)
        >>> merge(pair, single)  # of -1, 1 and 3
        Moments(mean=tensor([1.]), var=tensor([4.]), count=3)
    """
    count = one.count + other.count
    share = other.count / at_least_one(count)
    apart = other.mean - one.mean
    squares = freedom(one.count) * one.var + freedom(other.count) * other.var + apart.square() * (one.count * share)
    return Moments(one.mean + apart * share, squares / at_least_one(freedom(count)), count)


def freedom(count: Tensor | int) -> Tensor | int:
    """count − 1, and 0 for nothing."""
    return (count - 1).clamp(min=0) if isinstance(count, Tensor) else max(count - 1, 0)


def at_least_one(count: Tensor | int) -> Tensor | int:
    """What can be divided by."""
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1)


def unbiased(var: Tensor, count: Tensor | int) -> Tensor:
    """The variance with n − 1 below; 0 of a single value."""
    return var * (count / at_least_one(freedom(count)))
