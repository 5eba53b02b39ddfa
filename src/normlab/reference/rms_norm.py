"""RMS norm: layer norm that leaves the mean out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Real

from normlab.reference import checks
from normlab.reference.layer_norm import checked_layer
from normlab.reference.mask import Mask, padding_of_elements
from normlab.reference.normalize import norm, norm_vjp
from normlab.reference.steps import Steps, walk


def rms_norm(
    x: Real[np.ndarray, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: checks.RealArray | None = None,
    *,
    eps: float | None = None,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """y = weight · x / √(mean(x²) + eps), one mean of squares per sample.

    With a mask, all values are normalized, with the moments of the real ones, as in `batch_norm`; padding that is NaN,
    infinite or beyond 1e100 comes out as 0. A sample without a real value comes out as 0.

    Shape:
        x: (*, *normalized_shape). weight: normalized_shape.
        mask: broadcastable to x. y: as x.

    Args:
        x: The values.
        normalized_shape: The last dimensions of `x`, which share a mean of squares.
        weight: Scale, or None for 1.
        eps: Added to the mean of squares; None is the machine epsilon of the dtype that `x` came in (of
            float64 for integers), as in torch.
        mask: True where a value is real.

    Returns:
        The normalized values; an empty array for an empty one.

    Raises:
        InvalidInputError: A shape does not fit, the mask is not boolean, or `eps` is negative.

    Differs from torch:
        torch has no mask.

    Source:
        Zhang & Sennrich (2019), equation 4; eps is torch's.

    Example:
        >>> rms_norm(np.array([[1.0, 7.0]]), 2)
        array([[0.2, 1.4]])
    """
    eps = _resolved(eps, x)
    view, a = checked_layer("rms_norm", normalized_shape, eps, center=False, x=x, weight=weight)
    return norm(view, **a, bias=None, eps=eps, padding=padding_of_elements("rms_norm", view, mask))


def rms_norm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: checks.RealArray | None = None,
    *,
    eps: float | None = None,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*param"] | None]:
    """Gradients of `rms_norm` in closed form: dx = rrms · (g − x_hat · mean(g·x_hat)), g = dy · weight.

    With a mask, dx = rrms · (g − m/n · x_hat · Σ g·x_hat), m the mask and n its count in the sample.

    Shape:
        dy: as x. The others as in `rms_norm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `rms_norm`, and so are the others.
        normalized_shape: The last dimensions of `x`.
        weight: Scale, or None.
        eps: Added to the mean of squares; None as in `rms_norm`.
        mask: True where a value is real.

    Returns:
        dx, dweight; None for a weight that is None.

    Raises:
        InvalidInputError: As `rms_norm`, or `dy` has not the shape of `x`.

    Source:
        Zhang & Sennrich (2019), equation 4, differentiated.

    Example:
        >>> rms_norm_vjp(np.array([[1.0, 1.0]]), np.array([[1.0, 7.0]]), 2, np.ones(2))[1]
        array([0.2, 1.4])
    """
    eps = _resolved(eps, x)
    view, a = checked_layer("rms_norm_vjp", normalized_shape, eps, center=False, x=x, weight=weight, dy=dy)
    dx, dweight, _ = norm_vjp(view, **a, bias=None, eps=eps, padding=padding_of_elements("rms_norm_vjp", view, mask))
    return dx, dweight


def rms_norm_steps(
    x: Real[np.ndarray, "*shape"],
    normalized_shape: int | Sequence[int],
    weight: checks.RealArray | None,
    dy: checks.RealArray,
    *,
    eps: float | None = None,
    mask: Mask | None = None,
) -> Steps:
    """RMS norm as a computational graph: squared, mean_square, rms, rrms, x_hat, scaled, y.

    Args:
        x: As in `rms_norm`, and so are the others.
        normalized_shape: The last dimensions of `x`.
        weight: Scale, or None.
        dy: Gradient with respect to the output.
        eps: Added to the mean of squares; None as in `rms_norm`.
        mask: True where a value is real.

    Returns:
        Each node with its value and its gradient, then dx and dweight (dbias is None).

    Raises:
        InvalidInputError: As `rms_norm_vjp`.

    Example:
        >>> x = np.array([[1.0, 7.0]])
        >>> [step.name for step in rms_norm_steps(x, 2, None, x).steps]
        ['squared', 'mean_square', 'rms', 'rrms', 'x_hat', 'scaled', 'y']
    """
    eps = _resolved(eps, x)
    view, a = checked_layer("rms_norm_steps", normalized_shape, eps, center=False, x=x, weight=weight, dy=dy)
    return walk(view, **a, bias=None, eps=eps, padding=padding_of_elements("rms_norm_steps", view, mask))


def _resolved(eps: float | None, x: checks.RealArray) -> float:
    if eps is not None:
        return eps
    floating = getattr(x, "dtype", None) in (np.float16, np.float32)
    return float(np.finfo(x.dtype if floating else np.float64).eps)
