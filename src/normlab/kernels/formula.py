"""Every norm of the family, written once on the view in plain torch: with masks, and differentiable without end.

It is the kernel of whatever PyTorch has none for, and what is differentiated where a kernel cannot be.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from normlab.kernels.view import View, statistics_dtype

# Padding beyond this is junk, as NaN and infinity are: a product of two such values must stay finite.
LARGEST = {torch.float32: 1e18, torch.float64: 1e100}


class Normalized(NamedTuple):
    """The output, and for each set its mean, 1 / √(var + eps) and biased variance."""

    y: Tensor
    mean: Tensor
    rstd: Tensor
    var: Tensor


def normalize(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mask: Tensor | None, view: View, eps: float
) -> Normalized:
    """y = weight · (x − mean) · rstd + bias; with a mask, by the moments of what is real.

    Args:
        x: the values.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        mask: as large as `x`, True where a value is real.
        view: where the sets lie.
        eps: added to the variance.
    """
    values, real, lost, count = _real(x, mask, view)
    mean, var = _moments(values, real, count, view)
    rstd = (var + eps).rsqrt()
    y = (values - mean) * rstd
    y = y if weight is None else y * view.of_weight(weight)
    y = y if bias is None else y + view.of_weight(bias)
    y = y if lost is None else y.masked_fill(lost, 0.0)
    return Normalized(view.unfold(y.to(x.dtype), x), mean.flatten(), rstd.flatten(), var.flatten())


def gradients(
    dy: Tensor, x: Tensor, weight: Tensor | None, mask: Tensor | None, mean: Tensor, rstd: Tensor, view: View
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dweight and dbias from the saved statistics, in closed form.

    With g = dy · weight: dx = rstd · (g − m/n · (Σg + x_hat · Σ g·x_hat)), m the mask and n its count; without the
    first sum for RMS norm.
    """
    values, real, lost, count = _real(x, mask, view)
    above = view.fold(dy).to(values.dtype)
    if lost is not None:
        above = above.masked_fill(lost, 0.0)
    rstd = view.of_set(rstd)
    x_hat = (values - view.of_set(mean)) * rstd
    g = above if weight is None else above * view.of_weight(weight)
    sums = x_hat * (g * x_hat).sum(view.axes, keepdim=True)
    if view.center:
        sums = sums + g.sum(view.axes, keepdim=True)
    share = sums / count
    dx = rstd * (g - (share if real is None else share * real))
    if lost is not None:
        dx = dx.masked_fill(lost, 0.0)
    outside = view.without_weight
    return view.unfold(dx.to(x.dtype), x), (above * x_hat).sum(outside).flatten(), above.sum(outside).flatten()


def moments_of(x: Tensor, mask: Tensor | None, view: View) -> tuple[Tensor, Tensor, Tensor | int]:
    """Mean and biased variance of each set, and how many values stand behind them."""
    values, real, _, count = _real(x, mask, view)
    mean, var = _moments(values, real, count, view)
    return mean.flatten(), var.flatten(), count if isinstance(count, int) else count.flatten()


def _moments(values: Tensor, real: Tensor | None, count: Tensor | int, view: View) -> tuple[Tensor, Tensor]:
    def average(a: Tensor) -> Tensor:
        return (a if real is None else a * real).sum(view.axes, keepdim=True) / count

    mean = average(values) if view.center else torch.zeros_like(average(values))
    return mean, average((values - mean).square())


def _real(x: Tensor, mask: Tensor | None, view: View) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | int]:
    """The values on the view with 0 at the junk; what is real, as numbers; what is junk; how many count in each set.

    What stands in a set without any real value is junk as well: there are no moments to normalize it with.
    """
    values = view.fold(x).to(statistics_dtype(x))
    if mask is None:
        return values, None, None, view.set_size
    real = view.fold(mask)
    count = real.sum(view.axes, keepdim=True)
    junk = ~real & (~(values.abs() <= LARGEST[values.dtype]) | (count == 0))
    return values.masked_fill(junk, 0.0), real.to(values.dtype), junk, count.clamp(min=1)
