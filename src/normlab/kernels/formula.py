"""Every norm of the family, written once on the view in plain torch: with masks, and differentiable without end.

It is the kernel of whatever PyTorch has none for, and what is differentiated where a kernel cannot be. There rstd³ has
to be a number: in float32 deviations up to 1e12.
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
    mean, centered = _centered(values, real, count, view)
    var = _average(centered.square(), real, count, view)
    rstd = _reciprocal(var + eps, real, view)
    y = _scaled(centered * rstd, weight, bias, lost, view)
    return Normalized(view.unfold(y.to(x.dtype), x), mean.flatten(), rstd.flatten(), var.flatten())


def normalize_with(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mask: Tensor | None, mean: Tensor, rstd: Tensor, view: View
) -> Tensor:
    """The output by given statistics."""
    values, _, lost, _ = _real(x, mask, view)
    x_hat = (values - view.of_set(mean)) * view.of_set(rstd)
    return view.unfold(_scaled(x_hat, weight, bias, lost, view).to(x.dtype), x)


def gradients(
    dy: Tensor, x: Tensor, weight: Tensor | None, mask: Tensor | None, mean: Tensor, rstd: Tensor, view: View
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dweight and dbias from the saved statistics, in closed form.

    With g = dy · weight: dx = rstd · (g − m/n · (Σg + x_hat · Σ g·x_hat)), m the mask and n its count; without the
    first sum for RMS norm.
    """
    values, real, lost, count = _real(x, mask, view)
    above = _above(dy, real, lost, view, values.dtype)
    rstd = view.of_set(rstd)
    x_hat = _centered(values, real, count, view, view.of_set(mean))[1] * rstd
    g = above if weight is None else above * view.of_weight(weight)
    sums = x_hat * (g * x_hat).sum(view.axes, keepdim=True)
    if view.center:
        sums = sums + g.sum(view.axes, keepdim=True)
    share = sums / count
    dx = _without(rstd * (g - (share if real is None else share * real)), lost)
    outside = view.without_weight
    return view.unfold(dx.to(x.dtype), x), (above * x_hat).sum(outside).flatten(), above.sum(outside).flatten()


def sums_of(
    dy: Tensor, x: Tensor, mask: Tensor | None, mean: Tensor, rstd: Tensor, view: View
) -> tuple[Tensor, Tensor]:
    """Σ dy·x_hat and Σ dy of each parameter: dweight and dbias."""
    values, real, lost, _ = _real(x, mask, view)
    above = _above(dy, real, lost, view, values.dtype)
    x_hat = (values - view.of_set(mean)) * view.of_set(rstd)
    return (above * x_hat).sum(view.without_weight).flatten(), above.sum(view.without_weight).flatten()


def gradient_with(
    dy: Tensor, x: Tensor, weight: Tensor | None, mask: Tensor | None, mean: Tensor, rstd: Tensor, view: View,
    along: Tensor, above_all: Tensor,
) -> Tensor:  # fmt: skip
    """dx of batch norm where the sums are known: Σ dy·x_hat / n and Σ dy / n of each channel, over all processes."""
    values, real, lost, _ = _real(x, mask, view)
    rstd = view.of_set(rstd)
    x_hat = (values - view.of_set(mean)) * rstd
    share = x_hat * view.of_set(along) + view.of_set(above_all)
    dx = _above(dy, real, lost, view, values.dtype) - (share if real is None else share * real)
    dx = dx * rstd if weight is None else dx * rstd * view.of_weight(weight)
    return view.unfold(_without(dx, lost).to(x.dtype), x)


def moments_of(x: Tensor, mask: Tensor | None, view: View) -> tuple[Tensor, Tensor, Tensor | int]:
    """Mean and biased variance of each set, and how many values stand behind them."""
    values, real, _, count = _real(x, mask, view)
    mean, centered = _centered(values, real, count, view)
    var = _average(centered.square(), real, count, view)
    if mask is None:
        return mean.flatten(), var.flatten(), view.set_size
    return mean.flatten(), var.flatten(), view.fold(mask).sum(view.axes).flatten().double()


def _scaled(x_hat: Tensor, weight: Tensor | None, bias: Tensor | None, lost: Tensor | None, view: View) -> Tensor:
    y = x_hat if weight is None else x_hat * view.of_weight(weight)
    y = y if bias is None else y + view.of_weight(bias)
    return _without(y, lost)


def _above(dy: Tensor, real: Tensor | None, lost: Tensor | None, view: View, dtype: torch.dtype) -> Tensor:
    """What comes from above on the view, with 0 where it, or the value, is junk."""
    above = view.fold(dy).to(dtype)
    return above if real is None or lost is None else above.masked_fill(lost | junk(above, real > 0), 0.0)


def _without(a: Tensor, lost: Tensor | None) -> Tensor:
    return a if lost is None else a.masked_fill(lost, 0.0)


def _centered(
    values: Tensor, real: Tensor | None, count: Tensor | int, view: View, mean: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean of each set, and the values less their mean.

    A mean of 1,000 is rounded by 3e-5 in float32: what is left of it after the subtraction is subtracted as well.
    """
    if not view.center:
        return torch.zeros_like(_average(values, real, count, view)), values
    mean = _average(values, real, count, view) if mean is None else mean
    centered = values - mean
    left = _average(centered, real, count, view)
    return mean + left, centered - left


def _reciprocal(squared: Tensor, real: Tensor | None, view: View) -> Tensor:
    """1 / √; 0 for a set without any real value, whose output is then the bias."""
    if real is None:
        return squared.rsqrt()
    return squared.rsqrt().masked_fill(real.sum(view.axes, keepdim=True) == 0, 0.0)


def _average(a: Tensor, real: Tensor | None, count: Tensor | int, view: View) -> Tensor:
    return (a if real is None else a * real).sum(view.axes, keepdim=True) / count


def _real(x: Tensor, mask: Tensor | None, view: View) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | int]:
    """The values on the view with 0 at the junk; what is real, as numbers; what is junk; how many count in each set."""
    values = view.fold(x).to(statistics_dtype(x))
    if mask is None:
        return values, None, None, view.set_size
    real = view.fold(mask)
    count = real.sum(view.axes, keepdim=True)
    lost = junk(values, real)
    return values.masked_fill(lost, 0.0), real.to(values.dtype), lost, count.clamp(min=1)


def junk(a: Tensor, real: Tensor) -> Tensor:
    """Where padding cannot be computed with: NaN, infinite, or so large that it would become so."""
    return ~real & ~(a.abs() <= LARGEST[statistics_dtype(a)])
