"""Moments, normalization, and scale and shift, with their gradients, for any normalization on the view."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from normlab.reference.mask import UNPADDED, Padding, without_junk, without_output
from normlab.reference.view import View, fold, fold_weight, unfold

Array = Float64[np.ndarray, "..."]
Mask = Bool[np.ndarray, "..."]


@dataclass(frozen=True)
class Moments:
    """Mean, biased variance and number of values of each set, kept as axes of size one."""

    mean: Array
    var: Array
    count: Array


def moments(x: Array, axes: tuple[int, ...], *, center: bool = True, mask: Mask | None = None) -> Moments:
    """The moments of each set, in two passes: first the mean, then the mean of the squared distances from it.

    E[x²] − E[x]² is never used: it loses all digits when the mean is large beside the deviation. Without
    `center` the mean is 0 and the variance is the mean of squares.

    Shape:
        x: any. mask: broadcastable to x. Each result: x with size 1 on `axes`.

    Args:
        x: The values.
        axes: The axes that a set lies along.
        center: False leaves the mean out.
        mask: True where a value is real. The others count for nothing.

    Returns:
        Mean, biased variance (divided by the count) and count. A set without values has mean and variance 0.

    Example:
        >>> moments(np.array([1.0, 2.0, 3.0, 6.0]), (0,))
        Moments(mean=array([3.]), var=array([3.5]), count=array([4.]))
    """
    real = np.broadcast_to(True if mask is None else mask, x.shape)
    count = np.asarray(np.sum(real, axis=axes, keepdims=True, dtype=np.float64))
    some: Array = np.maximum(count, 1.0)
    mean: Array = np.sum(x, axis=axes, keepdims=True, where=real) / some if center else np.zeros_like(count)
    var: Array = np.sum((x - mean) ** 2, axis=axes, keepdims=True, where=real) / some
    return Moments(mean, var, count)


def deviation(found: Moments, *, eps: float) -> Array:
    """√(var + eps) of each set, and ∞ of a set without values.

    Nothing can be said about such a set. Divided by ∞, all of its x_hat are 0, so that the bias comes out, and nothing
    flows back.

    Args:
        found: The moments.
        eps: Added to the variance.

    Example:
        >>> deviation(Moments(np.zeros(2), np.array([3.5, 0.0]), np.array([4.0, 0.0])), eps=0.5)
        array([ 2., inf])
    """
    return np.where(found.count > 0, np.sqrt(found.var + eps), np.inf)


def normalize(x: Array, axes: tuple[int, ...], *, eps: float, center: bool = True, mask: Mask | None = None) -> Array:
    """x_hat = (x − mean) / √(var + eps), for all positions, with the moments of the real ones; 0 if there are none.

    Args:
        x: The values.
        axes: The axes that a set lies along.
        eps: Added to the variance.
        center: False leaves the mean out.
        mask: True where a value takes part in the moments.
    """
    found = moments(x, axes, center=center, mask=mask)
    x_hat: Array = (x - found.mean) / deviation(found, eps=eps)
    return x_hat


def normalize_vjp(
    g: Array, x: Array, axes: tuple[int, ...], *, eps: float, center: bool = True, mask: Mask | None = None
) -> Array:
    """dx = rstd · (g − m/n · (Σg + x_hat · Σ g·x_hat)), m being 1 where a value took part in the moments.

    The sums run over all positions of a set, masked ones too, as all are normalized with its moments. Without
    `center` the term Σg is absent.

    Args:
        g: Gradient with respect to x_hat.
        x: The values that were normalized.
        axes: The axes that a set lies along.
        eps: Added to the variance.
        center: False leaves the mean out.
        mask: True where a value took part in the moments.
    """
    found = moments(x, axes, center=center, mask=mask)
    rstd = 1 / deviation(found, eps=eps)
    x_hat = (x - found.mean) * rstd
    through_moments = x_hat * np.sum(g * x_hat, axis=axes, keepdims=True)
    if center:
        through_moments = through_moments + np.sum(g, axis=axes, keepdims=True)
    shared = through_moments / np.maximum(found.count, 1)
    dx: Array = rstd * (g - (shared if mask is None else np.where(mask, shared, 0.0)))
    return dx


def scale_and_shift(view: View, x_hat: Array, weight: Array | None, bias: Array | None) -> Array:
    """weight · x_hat + bias on the view; None leaves a factor or a summand out."""
    scaled = x_hat if weight is None else x_hat * fold_weight(view, weight)
    return scaled if bias is None else scaled + fold_weight(view, bias)


def scale_and_shift_vjp(
    view: View, dy: Array, x_hat: Array, weight: Array | None, bias: Array | None
) -> tuple[Array, Array | None, Array | None]:
    """Gradients with respect to x_hat, weight and bias; None for a parameter that is None."""
    over = tuple(axis for axis in range(4) if axis not in view.weight_axes)
    g = dy if weight is None else dy * fold_weight(view, weight)
    dweight = None if weight is None else np.sum(dy * x_hat, axis=over).reshape(weight.shape)
    dbias = None if bias is None else np.sum(dy, axis=over).reshape(bias.shape)
    return g, dweight, dbias


def norm(
    view: View, x: Array, weight: Array | None, bias: Array | None, *, eps: float, padding: Padding = UNPADDED
) -> Array:
    """Normalization, scale and shift: what the whole family has in common. Junk in the padding comes out as 0."""
    clean = without_junk(padding, x=x)["x"]
    x_hat = normalize(fold(view, clean), view.axes, eps=eps, center=view.center, mask=padding.on_view)
    return without_output(padding, x, unfold(view, scale_and_shift(view, x_hat, weight, bias)))


def norm_vjp(
    view: View,
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    eps: float,
    padding: Padding = UNPADDED,
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of `norm` with respect to x, weight and bias, in closed form."""
    clean = without_junk(padding, x=x, dy=dy)
    x, dy = fold(view, clean["x"]), fold(view, clean["dy"])
    x_hat = normalize(x, view.axes, eps=eps, center=view.center, mask=padding.on_view)
    g, dweight, dbias = scale_and_shift_vjp(view, dy, x_hat, weight, bias)
    dx = normalize_vjp(g, x, view.axes, eps=eps, center=view.center, mask=padding.on_view)
    return unfold(view, dx), dweight, dbias
