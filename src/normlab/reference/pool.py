"""Max and average pooling over one, two or three spatial dimensions."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.windows import crop, output_sizes, pad, windows, windows_vjp


def max_pool(
    x: checks.RealArray,
    *,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> Float64[np.ndarray, "n c *out"]:
    """The largest value in each window; padding counts as −∞.

    Shape:
        x: (N, C, *S) with 1 to 3 dimensions in S.
        y: (N, C, *out), out = ⌊(S + 2 · padding − size) / stride⌋ + 1.

    Args:
        x: The values.
        size: Of the window.
        stride: Positions from one window to the next; None for the size.
        padding: Border on both sides, at most half the size.

    Returns:
        The largest values.

    Raises:
        InvalidInputError: A setting does not fit the shape.

    Differs from torch:
        Without dilation and ceil mode.

    Example:
        >>> max_pool(np.array([[[1.0, 5.0, 2.0, 3.0]]]), size=2)
        array([[[5., 3.]]])
    """
    a, how = _checked("max_pool", size, stride, padding, x=x)
    seen = windows(pad(a["x"], how.padding, value=-np.inf), how.size, how.stride)
    y: Float64[np.ndarray, "n c *out"] = seen.max(axis=_inside(how))
    return y


def max_pool_vjp(
    dy: checks.RealArray,
    x: checks.RealArray,
    *,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> tuple[Float64[np.ndarray, "n c *s"]]:
    """Gradient of `max_pool`: each dy goes to the largest value of its window, to the first one among equals.

    Shape:
        dy: (N, C, *out). x: (N, C, *S).

    Args:
        dy: Gradient with respect to the output.
        x: As in `max_pool`, and so are the others.
        size: Of the window.
        stride: Positions from one window to the next.
        padding: Border on both sides.

    Returns:
        (dx,)

    Raises:
        InvalidInputError: As `max_pool`, or `dy` has not the shape of the output.

    Example:
        >>> max_pool_vjp(np.array([[[7.0, 8.0]]]), np.array([[[1.0, 5.0, 3.0, 3.0]]]), size=2)
        (array([[[0., 7., 8., 0.]]]),)
    """
    a, how = _checked("max_pool_vjp", size, stride, padding, x=x, dy=dy)
    padded = pad(a["x"], how.padding, value=-np.inf)
    seen = windows(padded, how.size, how.stride)
    flat = seen.reshape(*a["dy"].shape, math.prod(how.size))
    dflat = np.zeros(flat.shape)
    np.put_along_axis(dflat, flat.argmax(axis=-1)[..., None], a["dy"][..., None], axis=-1)
    return (crop(windows_vjp(dflat.reshape(seen.shape), padded.shape, how.stride), how.padding),)


def avg_pool(
    x: checks.RealArray,
    *,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> Float64[np.ndarray, "n c *out"]:
    """The mean of each window; padding counts as zeros (torch's `count_include_pad=True`).

    Shape:
        x: (N, C, *S) with 1 to 3 dimensions in S.
        y: (N, C, *out), out = ⌊(S + 2 · padding − size) / stride⌋ + 1.

    Args:
        x: The values.
        size: Of the window.
        stride: Positions from one window to the next; None for the size.
        padding: Border on both sides, at most half the size.

    Returns:
        The means.

    Raises:
        InvalidInputError: A setting does not fit the shape.

    Differs from torch:
        Without ceil mode and divisor override.

    Example:
        >>> avg_pool(np.array([[[1.0, 5.0, 2.0, 3.0]]]), size=2)
        array([[[3. , 2.5]]])
    """
    a, how = _checked("avg_pool", size, stride, padding, x=x)
    seen = windows(pad(a["x"], how.padding), how.size, how.stride)
    y: Float64[np.ndarray, "n c *out"] = seen.mean(axis=_inside(how))
    return y


def avg_pool_vjp(
    dy: checks.RealArray,
    x: checks.RealArray,
    *,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
) -> tuple[Float64[np.ndarray, "n c *s"]]:
    """Gradient of `avg_pool`: each dy is shared equally by its window.

    Shape:
        dy: (N, C, *out). x: (N, C, *S).

    Args:
        dy: Gradient with respect to the output.
        x: As in `avg_pool`; only the shape matters.
        size: Of the window.
        stride: Positions from one window to the next.
        padding: Border on both sides.

    Returns:
        (dx,)

    Raises:
        InvalidInputError: As `avg_pool`, or `dy` has not the shape of the output.

    Example:
        >>> avg_pool_vjp(np.array([[[2.0, 4.0]]]), np.ones((1, 1, 4)), size=2)
        (array([[[1., 1., 2., 2.]]]),)
    """
    a, how = _checked("avg_pool_vjp", size, stride, padding, x=x, dy=dy)
    padded = pad(a["x"], how.padding)
    share = a["dy"].reshape(*a["dy"].shape, *(1,) * len(how.size)) / math.prod(how.size)
    dseen = np.broadcast_to(share, a["dy"].shape + how.size)
    return (crop(windows_vjp(dseen, padded.shape, how.stride), how.padding),)


class _How(NamedTuple):
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]


def _inside(how: _How) -> tuple[int, ...]:
    return tuple(range(-len(how.size), 0))


def _checked(
    where: str,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    **arrays: Any,
) -> tuple[dict[str, Any], _How]:
    a = checks.real(where, **arrays)
    x = a["x"]
    dims = x.ndim - 2
    if not 1 <= dims <= 3:
        rule = "`x` must have shape (N, C, *S) with 1, 2 or 3 spatial dimensions."
        raise errors.InvalidInputError(errors.message(where, Problem(rule, got=errors.describe(x=x))))
    sizes, problems = checks.per_dim("size", size, dims, least=1)
    strides, more = checks.per_dim("stride", sizes if stride is None else stride, dims, least=1)
    paddings, most = checks.per_dim("padding", padding, dims, least=0)
    errors.invalid_input(where, [*problems, *more, *most])
    how = _How(sizes, strides, paddings)
    out = output_sizes(x.shape[2:], *how)
    if any(2 * p > s for p, s in zip(paddings, sizes, strict=True)):
        rule = "`padding` must be at most half the size, so that no window lies in the padding alone."
        problems.append(Problem(rule, got=f"padding = {paddings}; size = {sizes}"))
    elif min(out) < 1:
        rule = "a window must not be larger than the padded input."
        problems.append(Problem(rule, got=f"size = {sizes}; padding = {paddings}; {errors.describe(x=x)}"))
    else:
        problems += checks.shaped(a, "dy", (*x.shape[:2], *out), "that of the output")
    errors.invalid_input(where, problems)
    return a, how
