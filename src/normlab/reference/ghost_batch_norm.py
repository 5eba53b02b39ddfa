"""Ghost batch norm: a batch split along N into ghost batches, each normalized by its own moments."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.batch_norm import batch_norm_statistics, checked_batch, running_on_view
from normlab.reference.constant import norm_constant, norm_constant_vjp
from normlab.reference.mask import UNPADDED, Mask, Padding, padding_of
from normlab.reference.normalize import norm, norm_vjp
from normlab.reference.view import View, batch_view


def ghost_batch_norm(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    virtual_batch: int,
    running_mean: checks.RealArray | None = None,
    running_var: checks.RealArray | None = None,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """`batch_norm` of each ghost batch of `virtual_batch` samples by itself.

    Where the cuts are is said by `ghost_batches`. With `virtual_batch` at least N it is batch norm, and so it is in
    evaluation. A ghost batch without a valid position comes out as the bias (junk as 0, as in `batch_norm`).

    Shape:
        x: (N, C, *S), or C on another `axis`. weight, bias, running_mean, running_var: (C,).
        mask: broadcastable to (N, *S). y: as x.

    Args:
        x: The values.
        weight: Scale, or None for 1.
        bias: Shift, or None for 0.
        virtual_batch: Samples in a ghost batch.
        running_mean: Mean to be used in evaluation.
        running_var: Variance to be used in evaluation, without eps.
        training: Whether the moments are taken from `x`.
        eps: Added to the variance, once.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        The normalized values.

    Raises:
        InvalidInputError: As `batch_norm`; `virtual_batch` is below 1.

    Differs from torch:
        torch has no such layer.

    Source:
        Hoffer, Hubara & Soudry (2017), algorithm 1.

    Example:
        >>> x = np.array([[1.0], [2.0], [3.0], [6.0], [5.0], [5.0]])
        >>> ghost_batch_norm(x, virtual_batch=4, eps=0.5).ravel()
        array([-1. , -0.5,  0. ,  1.5,  0. ,  0. ])
    """
    where = "ghost_batch_norm"
    view, a = checked_batch(where, axis, eps, also=_problems(virtual_batch), x=x, weight=weight, bias=bias)
    padding = padding_of(where, view, mask, some=training)
    if not training:
        mean, var = running_on_view(where, view, running_mean, running_var)
        return norm_constant(view, **a, mean=mean, var=var, eps=eps, padding=padding)
    parts = _parts(view, virtual_batch, a, padding)
    ys = [norm(of, **arrays, eps=eps, padding=padded) for of, arrays, padded in parts]
    return np.concatenate(ys, axis=_batch_axis(view))


def ghost_batch_norm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    virtual_batch: int,
    running_mean: checks.RealArray | None = None,
    running_var: checks.RealArray | None = None,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, " c"] | None, Float64[np.ndarray, " c"] | None]:
    """Gradients of `ghost_batch_norm`: dx of each ghost batch by itself, dweight and dbias summed over them.

    Shape:
        dy: as x. The others as in `ghost_batch_norm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `ghost_batch_norm`, and so are the others.
        weight: Scale, or None.
        bias: Shift, or None.
        virtual_batch: Samples in a ghost batch.
        running_mean: A constant: it has no gradient.
        running_var: A constant: it has no gradient.
        training: Whether the moments were taken from `x`.
        eps: Added to the variance.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        dx, dweight, dbias; None for a parameter that is None.

    Raises:
        InvalidInputError: As `ghost_batch_norm`, or `dy` has not the shape of `x`.

    Source:
        Hoffer, Hubara & Soudry (2017), algorithm 1, differentiated.

    Example:
        >>> dy, x = np.array([[1.0], [0.0], [1.0], [1.0]]), np.array([[0.0], [2.0], [4.0], [4.0]])
        >>> dx, _, dbias = ghost_batch_norm_vjp(dy, x, None, np.zeros(1), virtual_batch=2, eps=3.0)
        >>> dx.ravel(), dbias
        (array([ 0.1875, -0.1875,  0.    ,  0.    ]), array([3.]))
    """
    where = "ghost_batch_norm_vjp"
    view, a = checked_batch(where, axis, eps, also=_problems(virtual_batch), x=x, weight=weight, bias=bias, dy=dy)
    padding = padding_of(where, view, mask, some=training)
    if not training:
        mean, var = running_on_view(where, view, running_mean, running_var)
        return norm_constant_vjp(view, **a, mean=mean, var=var, eps=eps, padding=padding)
    parts = _parts(view, virtual_batch, a, padding)
    found = [norm_vjp(of, **arrays, eps=eps, padding=padded) for of, arrays, padded in parts]
    dxs, dweights, dbiases = zip(*found, strict=True)
    return (
        np.concatenate(dxs, axis=_batch_axis(view)),
        None if weight is None else np.sum(dweights, axis=0),
        None if bias is None else np.sum(dbiases, axis=0),
    )


def ghost_batch_norm_statistics(
    x: checks.RealArray, *, virtual_batch: int, axis: int = 1, mask: Mask | None = None
) -> tuple[tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"], int], ...]:
    """`batch_norm_statistics` of each ghost batch, in order: what `update_running` takes one after the other.

    A ghost batch without a valid position is left out, since it has nothing to commit.

    Shape:
        x: (N, C, *S), or C on another `axis`. mask: broadcastable to (N, *S). mean, var: (C,).

    Args:
        x: The values.
        virtual_batch: Samples in a ghost batch.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        mean, var (divided by the count) and count, for each ghost batch.

    Raises:
        InvalidInputError: As `batch_norm_statistics`; `virtual_batch` is below 1.

    Differs from torch:
        torch has no such layer. The paper writes the moving average over all ghost batches as one sum, and keeps that
        of σ_B, eps within; `update_running` takes one step for each, in order, and keeps the unbiased variance.

    Source:
        Hoffer, Hubara & Soudry (2017), algorithm 1.

    Example:
        >>> x = np.array([[1.0], [3.0], [5.0], [5.0]])
        >>> [(float(mean[0]), float(var[0]), n) for mean, var, n in ghost_batch_norm_statistics(x, virtual_batch=2)]
        [(2.0, 1.0, 2), (5.0, 0.0, 2)]
    """
    where = "ghost_batch_norm_statistics"
    view, a = checked_batch(where, axis, 0.0, also=_problems(virtual_batch), x=x)
    padding = padding_of(where, view, mask, some=True)
    found = []
    for _, arrays, padded in _parts(view, virtual_batch, a, padding):
        real = None if padded.real is None else padded.real.squeeze(view.channel_axis)
        if real is None or real.any():
            found.append(batch_norm_statistics(arrays["x"], axis=axis, mask=real))
    return tuple(found)


def ghost_batches(batch: int, positions: int, virtual_batch: int) -> tuple[slice, ...]:
    """The samples of each ghost batch: `virtual_batch` of them in order, and at the end what is left.

    What is left is a ghost batch of its own when a channel has at least two values in it. Otherwise it joins the one
    before, since nothing would come out of it but the bias. Only shapes count, not what a mask says.

    Args:
        batch: N.
        positions: S, 1 if there are none.
        virtual_batch: Samples in a ghost batch.

    Example:
        >>> ghost_batches(5, 1, virtual_batch=2)
        (slice(0, 2, None), slice(2, 5, None))
        >>> ghost_batches(5, 9, virtual_batch=2)
        (slice(0, 2, None), slice(2, 4, None), slice(4, 5, None))
    """
    starts = list(range(0, batch, virtual_batch))
    left = batch % virtual_batch
    if len(starts) > 1 and 0 < left * positions < 2:
        starts.pop()
    return tuple(slice(start, stop) for start, stop in zip(starts, [*starts[1:], batch], strict=True))


def _parts(
    view: View, virtual_batch: int, arrays: dict[str, Any], padding: Padding
) -> Iterator[tuple[View, dict[str, Any], Padding]]:
    """Each ghost batch: its view, its arrays (parameters as they are) and its padding."""
    batch, positions = view.shape[0], view.shape[3]
    for rows in ghost_batches(batch, positions, virtual_batch):
        cut = (*(slice(None),) * _batch_axis(view), rows)
        part = arrays | {name: arrays[name][cut] for name in ("x", "dy") if name in arrays}
        padded = UNPADDED
        if padding.real is not None and padding.on_view is not None:
            padded = Padding(padding.real[cut], padding.on_view[rows])
        yield batch_view(part["x"].shape, view.channel_axis), part, padded


def _batch_axis(view: View) -> int:
    """The first axis that does not hold the channels."""
    return int(view.channel_axis % len(view.x_shape) == 0)


def _problems(virtual_batch: int) -> Iterator[Problem]:
    if virtual_batch < 1:
        fix = "pass the number of samples that are to be normalized together."
        yield Problem("`virtual_batch` must be at least 1.", got=f"virtual_batch = {virtual_batch}", fix=fix)
