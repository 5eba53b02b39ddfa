"""Group norm: moments over (C/G, S), for each sample and group."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.mask import Mask, padding_of
from normlab.reference.normalize import norm, norm_vjp
from normlab.reference.steps import Steps, walk
from normlab.reference.view import View, group_view


def group_norm(
    x: Real[np.ndarray, "*shape"],
    num_groups: int,
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """y = weight · (x − mean) / √(var + eps) + bias, one mean and one biased variance per sample and group.

    One group is layer norm over (C, *S); C groups are instance norm.

    With a mask, all values are normalized, with the moments of the real ones, as in `batch_norm`; padding that is NaN,
    infinite or beyond 1e100 comes out as 0. A sample without a real value comes out as the bias.

    Shape:
        x: (N, C, *S). weight, bias: (C,).
        mask: broadcastable to (N, *S). y: as x.

    Args:
        x: The values.
        num_groups: Groups of consecutive channels; must divide C.
        weight: Scale, or None for 1.
        bias: Shift, or None for 0.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        The normalized values; an empty array for an empty one.

    Raises:
        InvalidInputError: A shape does not fit, `num_groups` does not divide C, the mask is not boolean, or `eps` is
            negative.

    Differs from torch:
        torch refuses a batch in which a group has one value; here x_hat is then 0. torch has no mask.

    Source:
        Wu & He (2018), equations 1, 2, 6 and 7.

    Example:
        >>> group_norm(np.array([[1.0, 2.0, 3.0, 6.0, 5.0, 5.0, 5.0, 5.0]]), 2, eps=0.5)
        array([[-1. , -0.5,  0. ,  1.5,  0. ,  0. ,  0. ,  0. ]])
    """
    view, a = checked_groups("group_norm", num_groups, eps, x=x, weight=weight, bias=bias)
    return norm(view, **a, eps=eps, padding=padding_of("group_norm", view, mask))


def group_norm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    num_groups: int,
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, " c"] | None, Float64[np.ndarray, " c"] | None]:
    """Gradients of `group_norm` in closed form.

    With g = dy · weight: dx = rstd · (g − mean(g) − x_hat · mean(g·x_hat)); dweight = Σ dy·x_hat;
    dbias = Σ dy. With a mask as in `batch_norm_vjp`; dx of a sample without a real value is 0.

    Shape:
        dy: as x. The others as in `group_norm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `group_norm`, and so are the others.
        num_groups: Groups of consecutive channels.
        weight: Scale, or None.
        bias: Shift, or None.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        dx, dweight, dbias; None for a parameter that is None.

    Raises:
        InvalidInputError: As `group_norm`, or `dy` has not the shape of `x`.

    Source:
        Wu & He (2018), equations 1, 2, 6 and 7, differentiated.

    Example:
        >>> group_norm_vjp(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]), 1, np.ones(2), eps=3.0)[1]
        array([-0.5,  0. ])
    """
    view, a = checked_groups("group_norm_vjp", num_groups, eps, x=x, weight=weight, bias=bias, dy=dy)
    return norm_vjp(view, **a, eps=eps, padding=padding_of("group_norm_vjp", view, mask))


def group_norm_steps(
    x: Real[np.ndarray, "*shape"],
    num_groups: int,
    weight: checks.RealArray | None,
    bias: checks.RealArray | None,
    dy: checks.RealArray,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Steps:
    """Group norm as a computational graph, with the same nine nodes as batch norm.

    Args:
        x: As in `group_norm`, and so are the others.
        num_groups: Groups of consecutive channels.
        weight: Scale, or None.
        bias: Shift, or None.
        dy: Gradient with respect to the output.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        Each node with its value and its gradient, then dx, dweight and dbias.

    Raises:
        InvalidInputError: As `group_norm_vjp`.

    Example:
        >>> x = np.array([[1.0, 3.0, 5.0, 9.0]])
        >>> group_norm_steps(x, 2, None, None, x).steps[0].value
        array([[2., 7.]])
    """
    view, a = checked_groups("group_norm_steps", num_groups, eps, x=x, weight=weight, bias=bias, dy=dy)
    return walk(view, **a, eps=eps, padding=padding_of("group_norm_steps", view, mask))


def checked_groups(
    where: str, num_groups: int, eps: float, *, center: bool = True, **arrays: Any
) -> tuple[View, dict[str, Any]]:
    """The view and the float64 arrays of a norm over groups of channels and all positions, with or without the mean.

    Args:
        where: The function that is asking, for the message.
        num_groups: Groups of consecutive channels.
        eps: Added to the variance.
        center: False for RMS norm.
        **arrays: The arguments by name.

    Raises:
        InvalidInputError: Something does not fit.
    """
    arrays = checks.real(where, **arrays)
    x = arrays["x"]
    problems = list(checks.epsilon(eps))
    if x.ndim < 2:
        rule = "`x` must have at least 2 dimensions, batch and channels."
        problems.append(Problem(rule, got=errors.describe(x=x), fix="add a dimension, as in x[None]."))
    else:
        if num_groups < 1 or x.shape[1] % num_groups:
            rule = f"`num_groups` must divide the {x.shape[1]} channels of `x`."
            problems.append(Problem(rule, got=f"num_groups = {num_groups}; {errors.describe(x=x)}"))
        problems += checks.parameters(arrays, x.shape[1:2], "one entry per channel of `x`")
        problems += checks.upstream(arrays)
    errors.invalid_input(where, problems)
    return group_view(x.shape, num_groups, center=center), arrays
