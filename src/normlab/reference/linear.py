"""The affine layer."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks


def linear(
    x: Real[np.ndarray, "*batch d"], weight: checks.RealArray, bias: checks.RealArray | None = None
) -> Float64[np.ndarray, "*batch out"]:
    """y = x · weightᵀ + bias.

    Shape:
        x: (*, D). weight: (O, D), as in torch. bias: (O,). y: (*, O).

    Args:
        x: The values.
        weight: One row per output.
        bias: Shift, or None for 0.

    Returns:
        The outputs.

    Raises:
        InvalidInputError: A shape does not fit.

    Example:
        >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
        array([[11.5]])
    """
    a = _checked("linear", x=x, weight=weight, bias=bias)
    y: Float64[np.ndarray, "*batch out"] = a["x"] @ a["weight"].T
    if bias is not None:
        y += a["bias"]
    return y


def linear_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*batch d"],
    weight: checks.RealArray,
    bias: checks.RealArray | None = None,
) -> tuple[Float64[np.ndarray, "*batch d"], Float64[np.ndarray, "out d"], Float64[np.ndarray, " out"] | None]:
    """Gradients of `linear`: dx = dy · weight, dweight = dyᵀ · x, dbias = Σ dy.

    Shape:
        dy: (*, O). The others as in `linear`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `linear`, and so are the others.
        weight: One row per output.
        bias: Shift, or None.

    Returns:
        dx, dweight, dbias; None for a bias that is None.

    Raises:
        InvalidInputError: As `linear`, or `dy` has not the shape of the output.

    Example:
        >>> linear_vjp(np.array([[2.0]]), np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]))
        (array([[6., 8.]]), array([[2., 4.]]), None)
    """
    a = _checked("linear_vjp", x=x, weight=weight, bias=bias, dy=dy)
    rows, drows = a["x"].reshape(-1, a["x"].shape[-1]), a["dy"].reshape(-1, a["dy"].shape[-1])
    dx = a["dy"] @ a["weight"]
    return dx, drows.T @ rows, None if bias is None else drows.sum(axis=0)


def _checked(where: str, **arrays: Any) -> dict[str, Any]:
    a = checks.real(where, **arrays)
    x, weight = a["x"], a["weight"]
    problems = []
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        problems.append(
            Problem(
                "`weight` must have shape (O, D), D being the last dimension of `x`.",
                got=errors.describe(weight=weight, x=x),
            )
        )
    else:
        problems += checks.shaped(a, "bias", weight.shape[:1], "one entry per row of `weight`")
        problems += checks.shaped(a, "dy", (*x.shape[:-1], weight.shape[0]), "that of the output")
    errors.invalid_input(where, problems)
    return a
