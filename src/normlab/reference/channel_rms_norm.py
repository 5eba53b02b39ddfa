"""RMS norm over channels and positions of each sample, with one weight a channel, as networks of images need it."""

import numpy as np
from jaxtyping import Float64, Real

from normlab.reference import checks
from normlab.reference.group_norm import checked_groups
from normlab.reference.mask import Mask, padding_of
from normlab.reference.normalize import norm, norm_vjp
from normlab.reference.steps import Steps, walk


def channel_rms_norm(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """y = weight · x / √(mean(x²) + eps), one mean of squares per sample.

    Group norm of one group that leaves mean and bias out; without positions, `rms_norm` over the channels.

    With a mask, all values are normalized, with the moments of the real ones, as in `batch_norm`; padding that is NaN,
    infinite or beyond 1e100 comes out as 0. A sample without a real value comes out as 0.

    Shape:
        x: (N, C, *S). weight: (C,).
        mask: broadcastable to (N, *S). y: as x.

    Args:
        x: The values.
        weight: Scale, or None for 1.
        eps: Added to the mean of squares.
        mask: True where a value is real.

    Returns:
        The normalized values; an empty array for an empty one.

    Raises:
        InvalidInputError: A shape does not fit, the mask is not boolean, or `eps` is negative.

    Differs from torch:
        `torch.nn.RMSNorm` has one weight an element of the last dimensions, not a channel, and no mask.

    Source:
        Zhang & Sennrich (2019), equation 4.

    Example:
        >>> channel_rms_norm(np.array([[[1.0], [7.0]]]), eps=0.0).ravel()
        array([0.2, 1.4])
    """
    view, a = checked_groups("channel_rms_norm", 1, eps, center=False, x=x, weight=weight)
    return norm(view, **a, bias=None, eps=eps, padding=padding_of("channel_rms_norm", view, mask))


def channel_rms_norm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, " c"] | None]:
    """Gradients of `channel_rms_norm` in closed form: dx = rrms · (g − x_hat · mean(g·x_hat)), g = dy · weight.

    With a mask as in `rms_norm_vjp`.

    Shape:
        dy: as x. The others as in `channel_rms_norm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `channel_rms_norm`, and so are the others.
        weight: Scale, or None.
        eps: Added to the mean of squares.
        mask: True where a value is real.

    Returns:
        dx, dweight; None for a weight that is None.

    Raises:
        InvalidInputError: As `channel_rms_norm`, or `dy` has not the shape of `x`.

    Source:
        Zhang & Sennrich (2019), equation 4, differentiated.

    Example:
        >>> channel_rms_norm_vjp(np.array([[[2.0, 1.0]]]), np.array([[[1.0, 7.0]]]), np.ones(1), eps=0.0)[1]
        array([1.8])
    """
    view, a = checked_groups("channel_rms_norm_vjp", 1, eps, center=False, x=x, weight=weight, dy=dy)
    dx, dweight, _ = norm_vjp(view, **a, bias=None, eps=eps, padding=padding_of("channel_rms_norm_vjp", view, mask))
    return dx, dweight


def channel_rms_norm_steps(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None,
    dy: checks.RealArray,
    *,
    eps: float = 1e-5,
    mask: Mask | None = None,
) -> Steps:
    """The same as a computational graph, with the seven nodes of `rms_norm_steps`.

    Args:
        x: As in `channel_rms_norm`.
        weight: Scale, or None.
        dy: Gradient with respect to the output.
        eps: Added to the mean of squares.
        mask: True where a value is real.

    Returns:
        Each node with its value and its gradient, then dx and dweight (dbias is None).

    Raises:
        InvalidInputError: As `channel_rms_norm_vjp`.

    Example:
        >>> x = np.array([[[1.0], [7.0]]])
        >>> channel_rms_norm_steps(x, None, x).steps[1].value
        array([[25.]])
    """
    view, a = checked_groups("channel_rms_norm_steps", 1, eps, center=False, x=x, weight=weight, dy=dy)
    return walk(view, **a, bias=None, eps=eps, padding=padding_of("channel_rms_norm_steps", view, mask))
