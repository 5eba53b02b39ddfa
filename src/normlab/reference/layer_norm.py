"""Layer norm: moments over the last dimensions, for each sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from normlab import errors
from normlab.reference import checks
from normlab.reference.mask import Mask, padding_of_elements
from normlab.reference.normalize import norm, norm_vjp
from normlab.reference.steps import Steps, walk
from normlab.reference.view import View, layer_view


def layer_norm(
    x: Real[np.ndarray, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """y = weight · (x − mean) / √(var + eps) + bias, one mean and one biased variance per sample.

    With a mask, all values are normalized, with the moments of the real ones, as in `batch_norm`; padding that is NaN,
    infinite or beyond 1e100 comes out as 0. A sample without a real value comes out as the bias.

    Shape:
        x: (*, *normalized_shape). weight, bias: normalized_shape.
        mask: broadcastable to x. y: as x.

    Args:
        x: The values.
        normalized_shape: The last dimensions of `x`, which share a mean and a variance.
        weight: Scale, or None for 1.
        bias: Shift, or None for 0.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        The normalized values; an empty array for an empty one.

    Raises:
        InvalidInputError: A shape does not fit, the mask is not boolean, or `eps` is negative.

    Differs from torch:
        torch has no mask.

    Source:
        Ba, Kiros & Hinton (2016), equations 3 and 4.

    Example:
        >>> layer_norm(np.array([[1.0, 2.0, 3.0, 6.0]]), 4, eps=0.5)
        array([[-1. , -0.5,  0. ,  1.5]])
        >>> layer_norm(np.array([[1.0, 2.0, 3.0, 6.0, 9.0]]), 5, eps=0.5, mask=np.arange(5) < 4)
        array([[-1. , -0.5,  0. ,  1.5,  3. ]])
    """
    view, a = checked_layer("layer_norm", normalized_shape, eps, x=x, weight=weight, bias=bias)
    return norm(view, **a, eps=eps, padding=padding_of_elements("layer_norm", view, mask))


def layer_norm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*param"] | None, Float64[np.ndarray, "*param"] | None]:
    """Gradients of `layer_norm` in closed form.

    With g = dy · weight: dx = rstd · (g − mean(g) − x_hat · mean(g·x_hat)); dweight = Σ dy·x_hat;
    dbias = Σ dy. With a mask as in `batch_norm_vjp`; dx of a sample without a real value is 0.

    Shape:
        dy: as x. The others as in `layer_norm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `layer_norm`, and so are the others.
        normalized_shape: The last dimensions of `x`.
        weight: Scale, or None.
        bias: Shift, or None.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        dx, dweight, dbias; None for a parameter that is None.

    Raises:
        InvalidInputError: As `layer_norm`, or `dy` has not the shape of `x`.

    Source:
        Ba, Kiros & Hinton (2016), equations 3 and 4, differentiated.

    Example:
        >>> layer_norm_vjp(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]), 2, np.ones(2), eps=3.0)[1]
        array([-0.5,  0. ])
    """
    view, a = checked_layer("layer_norm_vjp", normalized_shape, eps, x=x, weight=weight, bias=bias, dy=dy)
    return norm_vjp(view, **a, eps=eps, padding=padding_of_elements("layer_norm_vjp", view, mask))


def layer_norm_steps(
    x: Real[np.ndarray, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: checks.RealArray | None,
    bias: checks.RealArray | None,
    dy: checks.RealArray,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Steps:
    """Layer norm as a computational graph, with the same nine nodes as batch norm.

    Args:
        x: As in `layer_norm`, and so are the others.
        normalized_shape: The last dimensions of `x`.
        weight: Scale, or None.
        bias: Shift, or None.
        dy: Gradient with respect to the output.
        eps: Added to the variance.
        mask: True where a value is real.

    Returns:
        Each node with its value and its gradient, then dx, dweight and dbias.

    Raises:
        InvalidInputError: As `layer_norm_vjp`.

    Example:
        >>> x = np.array([[1.0, 2.0, 3.0, 6.0]])
        >>> mean = layer_norm_steps(x, 4, None, None, x, eps=0.5).steps[0]
        >>> mean.equation, mean.value, mean.gradient_equation, mean.gradient
        ('mean = Σ x / n', array([3.]), 'dmean = −Σ dcentered', array([-6.]))
    """
    view, a = checked_layer("layer_norm_steps", normalized_shape, eps, x=x, weight=weight, bias=bias, dy=dy)
    return walk(view, **a, eps=eps, padding=padding_of_elements("layer_norm_steps", view, mask))


def checked_layer(
    where: str, normalized_shape: int | Sequence[int], eps: float, *, center: bool = True, **arrays: Any
) -> tuple[View, dict[str, Any]]:
    """The view and the float64 arrays of a norm over the last dimensions, layer norm or RMS norm.

    Args:
        where: The function that is asking, for the message.
        normalized_shape: The last dimensions of `x`.
        eps: Added to the variance.
        center: False for RMS norm.
        **arrays: The arguments by name.

    Raises:
        InvalidInputError: Something does not fit.
    """
    arrays = checks.real(where, **arrays)
    x = arrays["x"]
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    problems = list(checks.epsilon(eps))
    if not shape or x.shape[-len(shape) :] != shape:
        problems.append(
            errors.Problem(
                "`normalized_shape` must be the last dimensions of `x`, at least one.",
                got=f"normalized_shape = {shape}; {errors.describe(x=x)}",
                fix=f"pass normalized_shape={x.shape[1:] or x.shape}.",
            )
        )
    problems += checks.parameters(arrays, shape, "equal to `normalized_shape`")
    problems += checks.upstream(arrays)
    errors.invalid_input(where, problems)
    return layer_view(x.shape, len(shape), center=center), arrays
