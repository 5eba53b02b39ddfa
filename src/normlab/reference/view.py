"""The one view that unites the family: x seen as (N, G, C/G, S).

    batch norm      moments over (N, S)       for each channel
    layer norm      moments over (C, S)       for each sample
    instance norm   moments over S            for each sample and channel
    group norm      moments over (C/G, S)     for each sample and group
    RMS norm        as layer norm, and leaves the mean out; with one weight a channel, as group norm of one group

The values that share one mean and one variance are called a set.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class View:
    """How one normalization sees an array: its shape as (N, G, C/G, S), and along which axes its sets lie."""

    x_shape: tuple[int, ...]
    shape: tuple[int, int, int, int]
    axes: tuple[int, ...]  # of `shape`: what shares one mean and variance
    weight_axes: tuple[int, ...]  # of `shape`: what `weight` and `bias` have one entry for
    set_shape: tuple[int, ...]  # how the user sees the sets: (C,) for batch norm, (N, G) for group norm
    positions: tuple[int, ...]  # S before it was flattened
    channel_axis: int = 1
    center: bool = True  # False leaves the mean out (RMS norm)

    @property
    def set_size(self) -> int:
        """Values in one set."""
        return math.prod(self.shape[axis] for axis in self.axes)


def batch_view(x_shape: tuple[int, ...], axis: int) -> View:
    """Moments over (N, S) for each channel, the channels standing on `axis`."""
    batch, *positions = (size for at, size in enumerate(x_shape) if at != axis % len(x_shape))
    channels = x_shape[axis]
    return View(
        x_shape=x_shape,
        shape=(batch, 1, channels, math.prod(positions)),
        axes=(0, 3),
        weight_axes=(2,),
        set_shape=(channels,),
        positions=tuple(positions),
        channel_axis=axis,
    )


def layer_view(x_shape: tuple[int, ...], dims: int, *, center: bool = True) -> View:
    """Moments over the last `dims` dimensions, the first of them taken as C and the others as S."""
    samples, (channels, *positions) = x_shape[:-dims], x_shape[-dims:]
    return View(
        x_shape=x_shape,
        shape=(math.prod(samples), 1, channels, math.prod(positions)),
        axes=(2, 3),
        weight_axes=(2, 3),
        set_shape=samples,
        positions=tuple(positions),
        center=center,
    )


def group_view(x_shape: tuple[int, ...], groups: int, *, center: bool = True) -> View:
    """Moments over (C/G, S) for each sample and group."""
    batch, channels, *positions = x_shape
    return View(
        x_shape=x_shape,
        shape=(batch, groups, channels // groups, math.prod(positions)),
        axes=(2, 3),
        weight_axes=(1, 2),
        set_shape=(batch, groups),
        positions=tuple(positions),
        center=center,
    )


def instance_view(x_shape: tuple[int, ...]) -> View:
    """Moments over S for each sample and channel."""
    batch, channels, *positions = x_shape
    return View(
        x_shape=x_shape,
        shape=(batch, 1, channels, math.prod(positions)),
        axes=(3,),
        weight_axes=(2,),
        set_shape=(batch, channels),
        positions=tuple(positions),
    )


def fold(view: View, x: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "n g c s"]:
    """`x` on the view.

    Example:
        >>> fold(batch_view((2, 5, 3), axis=-1), np.zeros((2, 5, 3))).shape
        (2, 1, 3, 5)
    """
    if view.channel_axis != 1:
        x = np.moveaxis(x, view.channel_axis, 1)
    return x.reshape(view.shape)


def unfold(view: View, x: Float64[np.ndarray, "n g c s"]) -> Float64[np.ndarray, "..."]:
    """Back from the view to the shape the user knows."""
    if view.channel_axis == 1:
        return x.reshape(view.x_shape)
    batch, _, channels, _ = view.shape
    return np.moveaxis(x.reshape(batch, channels, *view.positions), 1, view.channel_axis)


def fold_weight(view: View, weight: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "n g c s"]:
    """A parameter on the view, ready to be broadcast against it."""
    return weight.reshape([size if axis in view.weight_axes else 1 for axis, size in enumerate(view.shape)])


def by_set(view: View, x: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "values sets"]:
    """The same numbers with one column for each set.

    Example:
        >>> by_set(batch_view((2, 3), axis=1), np.arange(6.0).reshape(2, 3))
        array([[0., 1., 2.],
               [3., 4., 5.]])
        >>> by_set(layer_view((2, 3), dims=1), np.arange(6.0).reshape(2, 3))
        array([[0., 3.],
               [1., 4.],
               [2., 5.]])
    """
    kept = [axis for axis in range(4) if axis not in view.axes]
    sets = math.prod(view.shape[axis] for axis in kept)
    return fold(view, x).transpose(*view.axes, *kept).reshape(view.set_size, sets)
