"""Batch renormalization: batch norm whose output in training is drawn to that of evaluation, within bounds."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Real

from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.batch_norm import checked_batch, running_on_view
from normlab.reference.constant import norm_constant, norm_constant_vjp
from normlab.reference.mask import Mask, Padding, padding_of, without_junk, without_output
from normlab.reference.normalize import (
    deviation,
    moments,
    normalize,
    normalize_vjp,
    scale_and_shift,
    scale_and_shift_vjp,
)
from normlab.reference.view import View, fold, unfold

Array = Float64[np.ndarray, "..."]


def batch_renorm(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    running_mean: checks.RealArray | None = None,
    running_var: checks.RealArray | None = None,
    r_max: float = 3.0,
    d_max: float = 5.0,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """y = weight · (x_hat · r + d) + bias, x_hat being that of batch norm, r and d constants for each channel.

    With σ_B = √(var + eps) of the batch and σ = √(running_var + eps): r = σ_B / σ within [1 / r_max, r_max] and
    d = (mean − running_mean) / σ within [−d_max, d_max]. Where neither is clipped, this is the output of evaluation.
    With r_max = 1 and d_max = 0 it is batch norm. The running statistics are those before the batch; `update_running`
    is a step of its own. Evaluation, and a mask, are those of `batch_norm`.

    Shape:
        x: (N, C, *S), or C on another `axis`. weight, bias, running_mean, running_var: (C,).
        mask: broadcastable to (N, *S). y: as x.

    Args:
        x: The values.
        weight: Scale, or None for 1.
        bias: Shift, or None for 0.
        running_mean: Must be given, in training too.
        running_var: Must be given, in training too; without eps.
        r_max: Largest correction of the scale, at least 1; infinite for no bound.
        d_max: Largest correction of the shift, at least 0; infinite for no bound.
        training: Whether the moments are taken from `x`.
        eps: Added to the variance, once.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        The normalized values.

    Raises:
        InvalidInputError: A shape does not fit; a bound is too small; no running statistics; no valid position in
            training.

    Differs from torch:
        torch has no such layer. The paper keeps a moving average of σ_B, eps within; we keep PyTorch's, of the unbiased
        variance and without eps, so that the statistics are those of batch norm (r then settles near √((n − 1) / n) and
        not 1). The defaults are the last bounds of the paper, which begins with 1 and 0.

    Source:
        Ioffe (2017), algorithm 1.

    Example:
        >>> x = np.array([[1.0], [2.0], [3.0], [6.0]])
        >>> running = {"running_mean": np.array([2.0]), "running_var": np.array([0.5])}
        >>> batch_renorm(x, **running, eps=0.5).ravel()  # r = 2 and d = 1, as in evaluation
        array([-1.,  0.,  1.,  4.])
        >>> batch_renorm(x, **running, eps=0.5, r_max=1.0, d_max=0.0).ravel()  # as in batch norm
        array([-1. , -0.5,  0. ,  1.5])
    """
    where = "batch_renorm"
    view, a = checked_batch(where, axis, eps, also=_bounds(r_max, d_max), x=x, weight=weight, bias=bias)
    padding = padding_of(where, view, mask, some=training)
    mean, var = running_on_view(where, view, running_mean, running_var, always=True)
    if not training:
        return norm_constant(view, **a, mean=mean, var=var, eps=eps, padding=padding)
    clean = fold(view, without_junk(padding, x=a["x"])["x"])
    r, d = _corrections(view, clean, padding, mean, var, eps=eps, r_max=r_max, d_max=d_max)
    x_hat = normalize(clean, view.axes, eps=eps, mask=padding.on_view) * r + d
    return without_output(padding, a["x"], unfold(view, scale_and_shift(view, x_hat, a["weight"], a["bias"])))


def batch_renorm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    running_mean: checks.RealArray | None = None,
    running_var: checks.RealArray | None = None,
    r_max: float = 3.0,
    d_max: float = 5.0,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, " c"] | None, Float64[np.ndarray, " c"] | None]:
    """Gradients of `batch_renorm` in closed form, no gradient flowing through r and d.

    dx is that of batch norm times r; dweight = Σ dy · (x_hat · r + d); dbias = Σ dy. In evaluation as `batch_norm_vjp`.

    Shape:
        dy: as x. The others as in `batch_renorm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `batch_renorm`, and so are the others.
        weight: Scale, or None.
        bias: Shift, or None.
        running_mean: A constant: it has no gradient.
        running_var: A constant: it has no gradient.
        r_max: Largest correction of the scale.
        d_max: Largest correction of the shift.
        training: Whether the moments were taken from `x`.
        eps: Added to the variance.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        dx, dweight, dbias; None for a parameter that is None.

    Raises:
        InvalidInputError: As `batch_renorm`, or `dy` has not the shape of `x`.

    Source:
        Ioffe (2017), section 3.

    Example:
        >>> dy, x = np.array([[1.0], [0.0]]), np.array([[0.0], [2.0]])
        >>> dx, dweight, _ = batch_renorm_vjp(
        ...     dy, x, np.ones(1), running_mean=np.zeros(1), running_var=np.array([13.0]), eps=3.0
        ... )
        >>> dx.ravel(), dweight  # half of batch norm's dx, r being 2 / 4; x_hat · r + d is −1/4 + 1/4
        (array([ 0.09375, -0.09375]), array([0.]))
    """
    where = "batch_renorm_vjp"
    view, a = checked_batch(where, axis, eps, also=_bounds(r_max, d_max), x=x, weight=weight, bias=bias, dy=dy)
    padding = padding_of(where, view, mask, some=training)
    mean, var = running_on_view(where, view, running_mean, running_var, always=True)
    if not training:
        return norm_constant_vjp(view, **a, mean=mean, var=var, eps=eps, padding=padding)
    found = without_junk(padding, x=a["x"], dy=a["dy"])
    clean, upstream = fold(view, found["x"]), fold(view, found["dy"])
    r, d = _corrections(view, clean, padding, mean, var, eps=eps, r_max=r_max, d_max=d_max)
    x_hat = normalize(clean, view.axes, eps=eps, mask=padding.on_view) * r + d
    g, dweight, dbias = scale_and_shift_vjp(view, upstream, x_hat, a["weight"], a["bias"])
    dx = normalize_vjp(g * r, clean, view.axes, eps=eps, mask=padding.on_view)
    return unfold(view, dx), dweight, dbias


def _corrections(
    view: View, x: Array, padding: Padding, mean: Array, var: Array, *, eps: float, r_max: float, d_max: float
) -> tuple[Array, Array]:
    """r and d of each channel, on the view."""
    found = moments(x, view.axes, mask=padding.on_view)
    std = np.sqrt(var + eps)
    r: Array = np.clip(deviation(found, eps=eps) / std, 1 / r_max, r_max)
    d: Array = np.clip((found.mean - mean) / std, -d_max, d_max)
    return r, d


def _bounds(r_max: float, d_max: float) -> Iterator[Problem]:
    if not r_max >= 1:
        fix = "pass 1 for no correction of the scale, as at the start of the paper's training."
        yield Problem("`r_max` must be at least 1.", got=f"r_max = {r_max}", fix=fix)
    if not d_max >= 0:
        fix = "pass 0 for no correction of the shift, as at the start of the paper's training."
        yield Problem("`d_max` must be at least 0.", got=f"d_max = {d_max}", fix=fix)
