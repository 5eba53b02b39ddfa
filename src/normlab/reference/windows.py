"""Windows that slide over the positions of (N, C, *S): what convolution and pooling have in common."""

import numpy as np
from jaxtyping import Float64

Sizes = tuple[int, ...]


def pad(x: Float64[np.ndarray, "n c *s"], padding: Sizes, *, value: float = 0.0) -> Float64[np.ndarray, "n c *p"]:
    """`x` with a border of `value` on both sides of every spatial dimension."""
    return np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=value)


def crop(x: Float64[np.ndarray, "n c *p"], padding: Sizes) -> Float64[np.ndarray, "n c *s"]:
    """The inside of a padded array."""
    inside = tuple(slice(p, size - p) for p, size in zip(padding, x.shape[2:], strict=True))
    return x[:, :, *inside]


def output_sizes(sizes: Sizes, window: Sizes, stride: Sizes, padding: Sizes) -> Sizes:
    """Windows along each dimension, not counting one that would run over the edge.

    Example:
        >>> output_sizes((5, 6), window=(3, 2), stride=(2, 2), padding=(1, 0))
        (3, 3)
    """
    return tuple(
        (size + 2 * p - w) // step + 1 for size, w, step, p in zip(sizes, window, stride, padding, strict=True)
    )


def windows(
    x: Float64[np.ndarray, "n c *p"], window: Sizes, stride: Sizes
) -> Float64[np.ndarray, "n c *out_and_window"]:
    """Every window of `x`, a read-only view of shape (N, C, *out, *window).

    Example:
        >>> windows(np.arange(5.0).reshape(1, 1, 5), (3,), (2,))[0, 0]
        array([[0., 1., 2.],
               [2., 3., 4.]])
    """
    every = np.lib.stride_tricks.sliding_window_view(x, window, axis=tuple(range(2, x.ndim)))
    return every[:, :, *(slice(None, None, step) for step in stride)]


def windows_vjp(
    dwindows: Float64[np.ndarray, "n c *out_and_window"], shape: tuple[int, ...], stride: Sizes
) -> Float64[np.ndarray, "n c *p"]:
    """Each gradient added back to the place in `shape` that its window read it from."""
    dims = len(shape) - 2
    out, window = dwindows.shape[2 : 2 + dims], dwindows.shape[2 + dims :]
    dx = np.zeros(shape)
    for offset in np.ndindex(*window):
        read = tuple(slice(at, at + step * count, step) for at, step, count in zip(offset, stride, out, strict=True))
        dx[:, :, *read] += dwindows[..., *offset]
    return dx
