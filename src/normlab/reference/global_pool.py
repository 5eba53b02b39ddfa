"""The mean over all positions of a channel."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks


def global_avg_pool(x: checks.RealArray) -> Float64[np.ndarray, "n c"]:
    """y = mean of x over all its positions.

    Shape:
        x: (N, C, *S), any number of dimensions in S, none too. y: (N, C).

    Args:
        x: The values.

    Returns:
        The means, without dimensions of positions.

    Raises:
        InvalidInputError: There are no channels, or no position to take the mean of.

    Differs from torch:
        `AdaptiveAvgPool2d(1)` leaves (N, C, 1, 1), to be flattened.

    Source:
        Lin, Chen & Yan (2014), section 3.2.

    Example:
        >>> global_avg_pool(np.array([[[1.0, 2.0], [5.0, 7.0]]]))
        array([[1.5, 6. ]])
    """
    a = _checked("global_avg_pool", x=x)
    y: Float64[np.ndarray, "n c"] = _by_channel(a["x"]).mean(axis=2)
    return y


def global_avg_pool_vjp(dy: checks.RealArray, x: checks.RealArray) -> tuple[Float64[np.ndarray, "n c *s"]]:
    """Gradient of `global_avg_pool`: each position gets dy / (number of positions).

    Shape:
        dy: (N, C). x: (N, C, *S).

    Args:
        dy: Gradient with respect to the output.
        x: The values; only the shape matters.

    Returns:
        (dx,)

    Raises:
        InvalidInputError: As `global_avg_pool`, or `dy` has not the shape of the output.

    Example:
        >>> global_avg_pool_vjp(np.array([[3.0]]), np.zeros((1, 1, 2)))
        (array([[[1.5, 1.5]]]),)
    """
    a = _checked("global_avg_pool_vjp", x=x, dy=dy)
    x, dy = a["x"], a["dy"]
    share = dy / math.prod(x.shape[2:])
    return (np.broadcast_to(share.reshape(*share.shape, *(1,) * (x.ndim - 2)), x.shape).copy(),)


def _by_channel(x: Float64[np.ndarray, "n c *s"]) -> Float64[np.ndarray, "n c positions"]:
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _checked(where: str, **arrays: Any) -> dict[str, Any]:
    a = checks.real(where, **arrays)
    x = a["x"]
    problems = []
    if x.ndim < 2 or 0 in x.shape[2:]:
        rule = "`x` must have shape (N, C, *S), with at least one position."
        problems.append(Problem(rule, got=errors.describe(x=x)))
    else:
        problems += checks.shaped(a, "dy", x.shape[:2], "that of the output")
    errors.invalid_input(where, problems)
    return a
