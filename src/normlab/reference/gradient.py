"""Gradients by differences, and how far a vjp is from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks

Array = Float64[np.ndarray, "..."]

# A gradient below this share of the largest one of its array is compared with that share, not with itself, since
# differences know it only to about 1e-12 of the largest. An error of 1e-10 of the largest gradient, in any single
# element, still reads as 1e-7.
SMALL = 1e-3


@dataclass(frozen=True)
class GradientCheck:
    """The worst element found: its relative error, where it is, and both gradients there."""

    error: float
    input: int
    element: tuple[int, ...]
    analytic: float
    numeric: float


def numeric_gradient(f: Callable[..., Any], dy: Array | float, *inputs: Array, step: float = 1e-3) -> tuple[Array, ...]:
    """Gradients of Σ dy · f(*inputs) by central differences over four points.

    The outputs are subtracted before they are summed, so that outputs which an element does not touch cancel
    exactly. Truncation falls with step⁴, rounding grows with 1 / step.

    Shape:
        inputs: any. dy: that of f(*inputs). Each result: that of its input.

    Args:
        f: A function of the inputs, returning an array or a number.
        dy: Gradient with respect to the output.
        *inputs: float64 arrays.
        step: Of the differences, in units of the inputs; well below the distance over which f bends.

    Returns:
        One gradient per input.

    Example:
        >>> (dx,) = numeric_gradient(lambda x: x**3, np.array([1.0, 10.0]), np.array([1.0, 2.0]))
        >>> dx.round(9)
        array([  3., 120.])
    """

    def along(which: int, at: tuple[int, ...]) -> float:
        def moved(by: float) -> Any:
            x = inputs[which].copy()
            x[at] += by
            return f(*inputs[:which], x, *inputs[which + 1 :])

        near, far = moved(step) - moved(-step), moved(2 * step) - moved(-2 * step)
        return float(np.sum(dy * (8 * near - far)) / (12 * step))

    gradients = []
    for which, x in enumerate(inputs):
        gradient = np.zeros(x.shape)
        for at in np.ndindex(x.shape):
            gradient[at] = along(which, at)
        gradients.append(gradient)
    return tuple(gradients)


def relative_error(a: Float64[np.ndarray, "*shape"], b: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """|a − b| / max(|a|, |b|, SMALL · largest |b|), element by element; 0 for 0 against 0.

    Something that is not finite on either side has error ∞.

    Args:
        a: What is being checked.
        b: What is trusted.

    Example:
        >>> relative_error(np.array([1.0, 2.0, 0.0]), np.array([1.0, 4.0, 0.0]))
        array([0. , 0.5, 0. ])
    """
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
    scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), SMALL * np.max(np.abs(b), initial=0.0))
    error = np.divide(np.abs(a - b), scale, out=np.zeros(a.shape), where=scale > 0)
    return np.where(finite, error, np.inf)


def check_gradient(
    f: Callable[..., Any],
    vjp: Callable[..., tuple[Any, ...]],
    *inputs: checks.RealArray,
    seed: int = 0,
    step: float = 1e-3,
) -> GradientCheck:
    """The largest relative error of a vjp against central differences, under a random upstream gradient.

    The gradient from above is random because the gradient of a plain sum hides errors: that of a norm's sum
    is 0. The error is `relative_error`, so that one wrong element among many is not
    averaged away.

    Shape:
        inputs: any. vjp(dy, *inputs): a tuple with the shapes of the inputs.

    Args:
        f: A function of the inputs, smooth within two steps of them.
        vjp: Given dy and the inputs, the gradients with respect to the inputs, in order.
        *inputs: Where to check.
        seed: Of the upstream gradient.
        step: Of the differences, in units of the inputs.

    Returns:
        The worst element.

    Raises:
        InvalidInputError: A gradient is missing or has another shape than its input; there is no element to
            check.

    Example:
        >>> check_gradient(lambda x: x**2, lambda dy, x: (dy * 2 * x,), np.array([1.0, 2.0])).error < 1e-9
        True
        >>> check_gradient(lambda x: x**2, lambda dy, x: (dy * x,), np.array([1.0, 2.0])).error > 0.4
        True
    """
    named = checks.real("check_gradient", **{f"inputs[{at}]": x for at, x in enumerate(inputs)})
    at_point = tuple(named.values())
    y = f(*at_point)
    # A stream of its own: had the caller drawn x from default_rng(seed), dy would be x, and a norm's dx nearly 0.
    dy: Any = np.random.default_rng((seed, 1)).standard_normal(np.shape(y))
    analytic = vjp(dy, *at_point)
    errors.invalid_input("check_gradient", _problems(analytic, at_point))
    numeric = numeric_gradient(f, dy, *at_point, step=step)
    found = []
    for which, (a, b) in enumerate(zip(analytic, numeric, strict=True)):
        if a.size:
            error = relative_error(a, b)
            element = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
            worst = GradientCheck(float(error[element]), which, element, float(a[element]), float(b[element]))
            found.append(worst)
    return max(found, key=lambda check: check.error)


def _problems(analytic: tuple[Any, ...], inputs: tuple[Any, ...]) -> list[Problem]:
    if len(analytic) != len(inputs):
        got = f"{len(analytic)} gradients for {len(inputs)} inputs"
        return [Problem("`vjp` must return one gradient per input.", got=got)]
    problems = [
        Problem(
            f"gradient {which} must have shape {x.shape}, that of its input.",
            got=errors.describe(gradient=gradient),
        )
        for which, (gradient, x) in enumerate(zip(analytic, inputs, strict=True))
        if np.shape(gradient) != x.shape
    ]
    if not any(x.size for x in inputs):
        problems.append(Problem("there must be at least one element to check."))
    return problems
