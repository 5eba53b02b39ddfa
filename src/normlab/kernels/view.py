"""The one view that unites the family: x seen as (N, G, C/G, S), and along which axes the moments are taken.

The values that share one mean and one variance are called a set.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class View:
    """How one normalization sees a tensor."""

    shape: tuple[int, int, int, int]
    axes: tuple[int, ...]  # of `shape`: what shares one mean and variance
    weight_axes: tuple[int, ...]  # of `shape`: what `weight` and `bias` have one entry for
    channel_axis: int = 1
    center: bool = True  # False leaves the mean out (RMS norm)

    def fold(self, x: Tensor) -> Tensor:
        """`x`, or a mask as large as it, on the view."""
        return x.movedim(self.channel_axis, 1).reshape(self.shape)

    def unfold(self, y: Tensor, like: Tensor) -> Tensor:
        """Back from the view to the shape that the user knows."""
        moved = like.movedim(self.channel_axis, 1)
        return y.reshape(moved.shape).movedim(1, self.channel_axis)

    def of_weight(self, weight: Tensor) -> Tensor:
        """A parameter, ready to be broadcast against the view."""
        return weight.reshape([size if axis in self.weight_axes else 1 for axis, size in enumerate(self.shape)])

    def of_set(self, value: Tensor) -> Tensor:
        """One number a set, ready to be broadcast against the view."""
        return value.reshape([1 if axis in self.axes else size for axis, size in enumerate(self.shape)])

    @property
    def without_weight(self) -> tuple[int, ...]:
        """The axes over which the gradients of the parameters are summed."""
        return tuple(axis for axis in range(4) if axis not in self.weight_axes)

    @property
    def sets(self) -> int:
        """How many there are."""
        return math.prod([size for axis, size in enumerate(self.shape) if axis not in self.axes])

    @property
    def entries(self) -> int:
        """Of `weight` and `bias`."""
        return math.prod([self.shape[axis] for axis in self.weight_axes])

    @property
    def set_size(self) -> int:
        """Values in one set."""
        return math.prod([self.shape[axis] for axis in self.axes])  # a list, for torch.compile


def batch_view(x: Tensor, axis: int) -> View:
    """Moments over (N, S) for each channel, the channels standing on `axis`."""
    batch, *positions = (size for at, size in enumerate(x.shape) if at != axis % x.ndim)
    return View((batch, 1, x.shape[axis], math.prod(positions)), (0, 3), (2,), channel_axis=axis)


def group_view(x: Tensor, groups: int) -> View:
    """Moments over (C/G, S) for each sample and group; with as many groups as channels it is instance norm."""
    batch, channels, *positions = x.shape
    return View((batch, groups, channels // groups, math.prod(positions)), (2, 3), (1, 2))


def layer_view(x: Tensor, dims: int, *, center: bool = True) -> View:
    """Moments over the last `dims` dimensions, for each of what stands before them."""
    rows, inside = x.shape[:-dims], x.shape[-dims:]
    shape = (math.prod(rows), 1, math.prod(inside), 1)
    return View(shape, (2, 3), (2, 3), channel_axis=min(1, x.ndim - 1), center=center)


def statistics_dtype(x: Tensor) -> torch.dtype:
    """Moments are taken in float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)
