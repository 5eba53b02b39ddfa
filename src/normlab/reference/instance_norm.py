"""Instance norm: moments over S, for each sample and channel."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.mask import Mask, padding_of
from normlab.reference.normalize import norm, norm_vjp
from normlab.reference.steps import Steps, walk
from normlab.reference.view import View, instance_view


def instance_norm(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """y = weight · (x − mean) / √(var + eps) + bias, one mean and one biased variance per sample and channel.

    With a mask, all values are normalized, with the moments of the real ones, as in `batch_norm`; padding that is NaN,
    infinite or beyond 1e100 comes out as 0. A sample without a real value comes out as the bias.

    Shape:
        x: (N, C, *S), with at least one dimension in S. weight, bias: (C,).
        mask: broadcastable to (N, *S). y: as x.

    Args:
        x: The values.
        weight: Scale, or None for 1.
        bias: Shift, or None for 0.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        The normalized values; an empty array for an empty one.

    Raises:
        InvalidInputError: A shape does not fit, the mask is not boolean, or `eps` is negative.

    Differs from torch:
        torch refuses a single position; here x_hat is then 0. torch has no mask. Running statistics are not offered,
        nor an input without batch dimension.

    Source:
        Ulyanov, Vedaldi & Lempitsky (2016), equation 4.

    Example:
        >>> instance_norm(np.array([[[1.0, 2.0, 3.0, 6.0]]]), eps=0.5)
        array([[[-1. , -0.5,  0. ,  1.5]]])
    """
    view, a = _checked("instance_norm", eps, x=x, weight=weight, bias=bias)
    return norm(view, **a, eps=eps, padding=padding_of("instance_norm", view, mask))


def instance_norm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, " c"] | None, Float64[np.ndarray, " c"] | None]:
    """Gradients of `instance_norm` in closed form.

    With g = dy · weight: dx = rstd · (g − mean(g) − x_hat · mean(g·x_hat)); dweight = Σ dy·x_hat;
    dbias = Σ dy. With a mask as in `batch_norm_vjp`; dx of a sample without a real value is 0.

    Shape:
        dy: as x. The others as in `instance_norm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `instance_norm`, and so are the others.
        weight: Scale, or None.
        bias: Shift, or None.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        dx, dweight, dbias; None for a parameter that is None.

    Raises:
        InvalidInputError: As `instance_norm`, or `dy` has not the shape of `x`.

    Source:
        Ulyanov, Vedaldi & Lempitsky (2016), equation 4, differentiated.

    Example:
        >>> instance_norm_vjp(np.array([[[1.0, 0.0]]]), np.array([[[0.0, 2.0]]]), np.ones(1), eps=3.0)[1]
        array([-0.5])
    """
    view, a = _checked("instance_norm_vjp", eps, x=x, weight=weight, bias=bias, dy=dy)
    return norm_vjp(view, **a, eps=eps, padding=padding_of("instance_norm_vjp", view, mask))


def instance_norm_steps(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None,
    bias: checks.RealArray | None,
    dy: checks.RealArray,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Steps:
    """Instance norm as a computational graph, with the same nine nodes as batch norm.

    Args:
        x: As in `instance_norm`, and so are the others.
        weight: Scale, or None.
        bias: Shift, or None.
        dy: Gradient with respect to the output.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        Each node with its value and its gradient, then dx, dweight and dbias.

    Raises:
        InvalidInputError: As `instance_norm_vjp`.

    Example:
        >>> x = np.array([[[1.0, 3.0], [5.0, 9.0]]])
        >>> instance_norm_steps(x, None, None, x).steps[0].value
        array([[2., 7.]])
    """
    view, a = _checked("instance_norm_steps", eps, x=x, weight=weight, bias=bias, dy=dy)
    return walk(view, **a, eps=eps, padding=padding_of("instance_norm_steps", view, mask))


def _checked(where: str, eps: float, **arrays: Any) -> tuple[View, dict[str, Any]]:
    arrays = checks.real(where, **arrays)
    x = arrays["x"]
    problems = list(checks.epsilon(eps))
    if x.ndim < 3:
        rule = "`x` must have at least 3 dimensions: batch, channels and positions."
        problems.append(Problem(rule, got=errors.describe(x=x), fix="add a dimension, as in x[None]."))
    else:
        problems += checks.parameters(arrays, x.shape[1:2], "one entry per channel of `x`")
        problems += checks.upstream(arrays)
    errors.invalid_input(where, problems)
    return instance_view(x.shape), arrays
