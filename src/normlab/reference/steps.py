"""The computational graph of a normalization, walked node by node, every value and every gradient kept.

The closed form in `normalize.py` is this walk, multiplied out. The walk is the one of Ioffe & Szegedy (2015),
section 3, and of the CS231n course: nine nodes for the norms that centre.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from normlab.reference.mask import UNPADDED, Padding, without_junk, without_output
from normlab.reference.normalize import scale_and_shift_vjp
from normlab.reference.view import View, fold, fold_weight, unfold

Array = Float64[np.ndarray, "..."]


@dataclass(frozen=True)
class Step:
    """One node: how its value comes from the nodes before it, and its gradient from the nodes after it."""

    name: str
    equation: str
    value: Array
    gradient_equation: str
    gradient: Array | None  # None for a constant, through which no gradient flows


@dataclass(frozen=True)
class Steps:
    """The nodes in the order of the forward pass, and the gradients that the walk back ends in.

    Values and gradients have the shape of `x`, or of the sets of the view: (C,) for batch norm, (N, G) for
    group norm.
    """

    view: View
    steps: tuple[Step, ...]
    dx: Array
    dx_equation: str
    dweight: Array | None
    dbias: Array | None


def walk(
    view: View,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    dy: Array,
    *,
    eps: float,
    padding: Padding = UNPADDED,
) -> Steps:
    """Walks forward and backward with the moments of `x` itself.

    Args:
        view: Which values share a mean and a variance, and whether the mean is taken off.
        x: The values, in the user's shape.
        weight: Scale, or None.
        bias: Shift, or None.
        dy: Gradient with respect to the output, in the user's shape.
        eps: Added to the variance.
        padding: Where `x` is padded: what is padding takes no part in the moments, and junk in no node.
    """
    given, clean, mask = x, without_junk(padding, x=x, dy=dy), padding.on_view
    x, dy = fold(view, clean["x"]), fold(view, clean["dy"])
    real = np.broadcast_to(True if mask is None else mask, x.shape)
    count = np.sum(real, axis=view.axes, keepdims=True)
    n = np.maximum(count, 1)

    def total(values: Array) -> Array:
        summed: Array = np.sum(values, axis=view.axes, keepdims=True)
        return summed

    mean = np.sum(x, axis=view.axes, keepdims=True, where=real) / n if view.center else np.zeros_like(n)
    centered = x - mean
    squared = centered**2
    var = np.sum(squared, axis=view.axes, keepdims=True, where=real) / n
    std = np.where(count > 0, np.sqrt(var + eps), np.inf)  # ∞ as in `deviation`
    rstd = 1 / std
    x_hat = centered * rstd

    dx_hat, dweight, dbias = scale_and_shift_vjp(view, dy, x_hat, weight, bias)
    drstd = total(dx_hat * centered)
    dstd = -drstd / std**2
    dvar = dstd / (2 * std)
    dsquared = np.where(real, dvar / n, 0.0)
    dcentered = dx_hat * rstd + 2 * centered * dsquared
    dmean = -total(dcentered)

    m = "" if mask is None else "mask · "
    if view.center:
        dx, dx_equation = dcentered + np.where(real, dmean / n, 0.0), f"dx = dcentered + {m}dmean / n"
        nodes = [
            ("mean", f"Σ {m}x / n", mean, "−Σ dcentered", dmean),
            ("centered", "x − mean", centered, "rstd · dx_hat + 2 · centered · dsquared", dcentered),
            ("squared", "centered²", squared, f"{m}dvar / n", dsquared),
            ("var", f"Σ {m}squared / n", var, "dstd / (2 · std)", dvar),
            ("std", "√(var + eps)", std, "−drstd / std²", dstd),
            ("rstd", "1 / std", rstd, "Σ centered · dx_hat", drstd),
            ("x_hat", "centered · rstd", x_hat, _dx_hat(weight), dx_hat),
        ]
    else:
        dx, dx_equation = dcentered, "dx = rrms · dx_hat + 2 · x · dsquared"
        nodes = [
            ("squared", "x²", squared, f"{m}dmean_square / n", dsquared),
            ("mean_square", f"Σ {m}squared / n", var, "drms / (2 · rms)", dvar),
            ("rms", "√(mean_square + eps)", std, "−drrms / rms²", dstd),
            ("rrms", "1 / rms", rstd, "Σ x · dx_hat", drstd),
            ("x_hat", "x · rrms", x_hat, _dx_hat(weight), dx_hat),
        ]
    nodes += _last_two(view, x_hat, weight, bias, dy)
    steps = _without_output(_named(view, nodes), padding, given)
    return Steps(view, steps, unfold(view, dx), dx_equation, dweight, dbias)


def walk_constant(
    view: View,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    dy: Array,
    *,
    mean: Array,
    var: Array,
    eps: float,
    padding: Padding = UNPADDED,
) -> Steps:
    """Walks with a mean and a variance that are constants, as batch norm does in evaluation.

    Nothing is squared, and no gradient flows through the moments: the layer is one linear map.

    Args:
        view: Which values share a mean and a variance.
        x: The values, in the user's shape.
        weight: Scale, or None.
        bias: Shift, or None.
        dy: Gradient with respect to the output, in the user's shape.
        mean: Running mean, on the view.
        var: Running variance, on the view.
        eps: Added to the variance.
        padding: Where `x` is padded: junk takes no part in any node.
    """
    given, clean = x, without_junk(padding, x=x, dy=dy)
    x, dy = fold(view, clean["x"]), fold(view, clean["dy"])
    centered = x - mean
    std = np.sqrt(var + eps)
    rstd = 1 / std
    x_hat = centered * rstd
    dx_hat, dweight, dbias = scale_and_shift_vjp(view, dy, x_hat, weight, bias)
    dcentered = dx_hat * rstd
    nodes = [
        ("mean", "running_mean, a constant", mean, "", None),
        ("centered", "x − mean", centered, "rstd · dx_hat", dcentered),
        ("var", "running_var, a constant", var, "", None),
        ("std", "√(var + eps)", std, "", None),
        ("rstd", "1 / std", rstd, "", None),
        ("x_hat", "centered · rstd", x_hat, _dx_hat(weight), dx_hat),
        *_last_two(view, x_hat, weight, bias, dy),
    ]
    steps = _without_output(_named(view, nodes), padding, given)
    return Steps(view, steps, unfold(view, dcentered), "dx = dcentered", dweight, dbias)


Node = tuple[str, str, Array, str, Array | None]


def _dx_hat(weight: Array | None) -> str:
    return "dscaled" if weight is None else "weight · dscaled"


def _last_two(view: View, x_hat: Array, weight: Array | None, bias: Array | None, dy: Array) -> list[Node]:
    scaled = x_hat if weight is None else x_hat * fold_weight(view, weight)
    y = scaled if bias is None else scaled + fold_weight(view, bias)
    return [
        ("scaled", "x_hat" if weight is None else "weight · x_hat", scaled, "dy", dy),
        ("y", "scaled" if bias is None else "scaled + bias", y, "given", dy),
    ]


def _without_output(steps: tuple[Step, ...], padding: Padding, x: Array) -> tuple[Step, ...]:
    """The nodes with 0 where junk comes out; the gradient there is 0 already."""
    *before, y = steps
    return (*before, replace(y, value=without_output(padding, x, y.value)))


def _named(view: View, nodes: list[Node]) -> tuple[Step, ...]:
    return tuple(
        Step(
            name=name,
            equation=f"{name} = {equation}",
            value=_in_user_shape(view, value),
            gradient_equation=_gradient_equation(name, how),
            gradient=None if gradient is None else _in_user_shape(view, gradient),
        )
        for name, equation, value, how, gradient in nodes
    )


def _gradient_equation(name: str, how: str) -> str:
    match how:
        case "":
            return "a constant: no gradient flows"
        case "given":
            return f"d{name} is given"
        case _:
            return f"d{name} = {how}"


def _in_user_shape(view: View, values: Array) -> Array:
    return unfold(view, values) if values.shape == view.shape else values.reshape(view.set_shape)
