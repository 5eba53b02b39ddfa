"""Convolution over one, two or three spatial dimensions; the kernel is not flipped, as in deep learning."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.windows import crop, output_sizes, pad, windows, windows_vjp


def conv(
    x: checks.RealArray,
    weight: checks.RealArray,
    bias: checks.RealArray | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
) -> Float64[np.ndarray, "n o *out"]:
    """y[n, o] = Σ over channels and kernel of weight[o] · (window of x[n]) + bias[o].

    Shape:
        x: (N, C, *S) with 1 to 3 dimensions in S. weight: (O, C, *K). bias: (O,).
        y: (N, O, *out), out = ⌊(S + 2 · padding − K) / stride⌋ + 1.

    Args:
        x: The values.
        weight: One kernel per output channel.
        bias: Shift, or None for 0.
        stride: Positions from one window to the next.
        padding: Zeros added on both sides.

    Returns:
        The outputs.

    Raises:
        InvalidInputError: A shape does not fit, or a kernel is larger than the padded input.

    Differs from torch:
        Without groups and dilation.

    Example:
        >>> conv(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[1.0, -1.0]]]))
        array([[[-1., -2., -4.]]])
    """
    a, how = _checked("conv", stride, padding, x=x, weight=weight, bias=bias)
    seen = windows(pad(a["x"], how.padding), how.kernel, how.stride)
    y: Float64[np.ndarray, "n o *out"] = np.moveaxis(
        np.tensordot(seen, a["weight"], axes=(_window_axes(how), _kernel_axes(how))), -1, 1
    )
    return y if bias is None else y + a["bias"].reshape(-1, *(1,) * len(how.kernel))


def conv_vjp(
    dy: checks.RealArray,
    x: checks.RealArray,
    weight: checks.RealArray,
    bias: checks.RealArray | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
) -> tuple[Float64[np.ndarray, "n c *s"], Float64[np.ndarray, "o c *k"], Float64[np.ndarray, " o"] | None]:
    """Gradients of `conv`: each window sends back dy · weight, and collects dy · window for the weight.

    Shape:
        dy: (N, O, *out). The others as in `conv`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `conv`, and so are the others.
        weight: One kernel per output channel.
        bias: Shift, or None.
        stride: Positions from one window to the next.
        padding: Zeros added on both sides.

    Returns:
        dx, dweight, dbias; None for a bias that is None.

    Raises:
        InvalidInputError: As `conv`, or `dy` has not the shape of the output.

    Example:
        >>> x, weight = np.array([[[1.0, 2.0, 4.0]]]), np.array([[[1.0, -1.0]]])
        >>> dx, dweight, _ = conv_vjp(np.array([[[1.0, 0.0]]]), x, weight)
        >>> dx, dweight
        (array([[[ 1., -1.,  0.]]]), array([[[1., 2.]]]))
    """
    a, how = _checked("conv_vjp", stride, padding, x=x, weight=weight, bias=bias, dy=dy)
    padded = pad(a["x"], how.padding)
    seen = windows(padded, how.kernel, how.stride)
    summed = (0, *range(2, 2 + len(how.kernel)))  # batch and positions
    dweight = np.tensordot(a["dy"], seen, axes=(summed, summed))
    dseen = np.moveaxis(np.tensordot(a["dy"], a["weight"], axes=(1, 0)), 1 + len(how.kernel), 1)
    dx = crop(windows_vjp(dseen, padded.shape, how.stride), how.padding)
    return dx, dweight, None if bias is None else a["dy"].sum(axis=summed)


class _How(NamedTuple):
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]


def _window_axes(how: _How) -> tuple[int, ...]:
    return (1, *range(2 + len(how.kernel), 2 + 2 * len(how.kernel)))


def _kernel_axes(how: _How) -> tuple[int, ...]:
    return tuple(range(1, 2 + len(how.kernel)))


def _checked(
    where: str, stride: int | Sequence[int], padding: int | Sequence[int], **arrays: Any
) -> tuple[dict[str, Any], _How]:
    a = checks.real(where, **arrays)
    x, weight = a["x"], a["weight"]
    dims = weight.ndim - 2
    if not 1 <= dims <= 3 or x.ndim != weight.ndim or x.shape[1] != weight.shape[1]:
        problem = Problem(
            "`weight` must have shape (O, C, *K) and `x` (N, C, *S), with 1, 2 or 3 spatial dimensions.",
            got=errors.describe(weight=weight, x=x),
        )
        raise errors.InvalidInputError(errors.message(where, problem))
    strides, problems = checks.per_dim("stride", stride, dims, least=1)
    paddings, more = checks.per_dim("padding", padding, dims, least=0)
    problems += [*more, *checks.shaped(a, "bias", weight.shape[:1], "one entry per output channel")]
    errors.invalid_input(where, problems)
    how = _How(weight.shape[2:], strides, paddings)
    out = output_sizes(x.shape[2:], *how)
    if min(out) < 1 or min(how.kernel) < 1:
        rule = "a kernel must have at least one entry, and not be larger than the padded input."
        problems.append(Problem(rule, got=f"padding = {paddings}; {errors.describe(weight=weight, x=x)}"))
    else:
        problems += checks.shaped(a, "dy", (x.shape[0], weight.shape[0], *out), "that of the output")
    errors.invalid_input(where, problems)
    return a, how
