"""Normalization with a mean and a variance that are constants: batch norm in evaluation, one linear map."""

import numpy as np
from jaxtyping import Float64

from normlab.reference.mask import UNPADDED, Padding, without_junk, without_output
from normlab.reference.normalize import scale_and_shift, scale_and_shift_vjp
from normlab.reference.view import View, fold, unfold

Array = Float64[np.ndarray, "..."]


def norm_constant(
    view: View,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    mean: Array,
    var: Array,
    eps: float,
    padding: Padding = UNPADDED,
) -> Array:
    """y = weight · (x − mean) / √(var + eps) + bias. Junk in the padding comes out as 0.

    Args:
        view: Which values share a mean and a variance.
        x: The values, in the user's shape.
        weight: Scale, or None.
        bias: Shift, or None.
        mean: On the view.
        var: On the view.
        eps: Added to the variance.
        padding: Where `x` is padded.
    """
    clean = without_junk(padding, x=x)["x"]
    x_hat = (fold(view, clean) - mean) / np.sqrt(var + eps)
    return without_output(padding, x, unfold(view, scale_and_shift(view, x_hat, weight, bias)))


def norm_constant_vjp(
    view: View,
    dy: Array,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    mean: Array,
    var: Array,
    eps: float,
    padding: Padding = UNPADDED,
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of `norm_constant` with respect to x, weight and bias: dx = dy · weight / √(var + eps).

    Args:
        view: Which values share a mean and a variance.
        dy: Gradient with respect to the output, in the user's shape.
        x: The values, in the user's shape.
        weight: Scale, or None.
        bias: Shift, or None.
        mean: On the view.
        var: On the view.
        eps: Added to the variance.
        padding: Where `x` is padded.
    """
    clean = without_junk(padding, x=x, dy=dy)
    rstd = 1 / np.sqrt(var + eps)
    x_hat = (fold(view, clean["x"]) - mean) * rstd
    g, dweight, dbias = scale_and_shift_vjp(view, fold(view, clean["dy"]), x_hat, weight, bias)
    return unfold(view, g * rstd), dweight, dbias
