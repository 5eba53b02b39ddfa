"""Layer norm: moments over the last dimensions, for each of what stands before them."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from normlab.kernels import formula
from normlab.kernels.pick import pick
from normlab.kernels.view import layer_view
from normlab.ops import fused
from normlab.ops.checks import mask_like
from normlab.ops.registered import registered


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    mask: Tensor | None = None,
) -> Tensor:
    """Layer norm over the last dimensions.

    Shape:
        x: (*, *normalized_shape). weight, bias: normalized_shape. mask: broadcastable to x. y: as x.

    Args:
        x: the values.
        normalized_shape: the last dimensions of `x`, which share a mean and a variance.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        eps: added to the variance.
        mask: True where a value is real. Padding is normalized too, by the moments of what is real; NaN, infinite and
            enormous padding comes out as 0. What shares a mean with no real value comes out as the bias.

    Returns:
        The normalized values.

    Raises:
        InvalidInputError: the mask is not boolean or does not fit.

    Differs from torch:
        `torch.nn.functional.layer_norm` has no mask.

    Source:
        Ba, Kiros & Hinton (2016), equations 3 and 4.

    Example:
        >>> import torch
        >>> mask = torch.tensor([True, True, True, True, False])
        >>> layer_norm(torch.tensor([[1.0, 2.0, 3.0, 6.0, torch.nan]]), [5], eps=0.5, mask=mask)
        tensor([[-1.0000, -0.5000,  0.0000,  1.5000,  0.0000]])
    """
    dims = len(normalized_shape)
    backend = pick("layer_norm", x, mask, dims)
    if backend == "fused" and x.shape[-dims:] == torch.Size(normalized_shape):
        found: Tensor = fused_layer_norm(x, weight, bias, sets=dims, eps=eps)[0]
        return found
    if backend in ("fused", "stock"):
        return functional.layer_norm(x, normalized_shape, weight, bias, eps)
    mask = None if mask is None else mask_like("layer_norm", x, mask, None)
    if backend == "formula":
        return formula.normalize(x, weight, bias, mask, layer_view(x, dims), eps).y
    y: Tensor = registered_layer_norm(x, weight, bias, mask, dims, eps)[0]
    return y


registered_layer_norm = registered("layer_norm", layer_view)


@cache
def _kernels() -> fused.Kernels:
    from normlab.kernels.cpu import layer_norm

    return fused.Kernels(
        lambda x, weight, bias, sets, eps, after, given: layer_norm.layer_norm_fwd(x, weight, bias, sets, eps),
        lambda dy, x, weight, bias, statistics, sets, after, given: (
            *layer_norm.layer_norm_bwd(dy, x, weight, statistics, sets),
            None,
        ),
    )


fused_layer_norm = fused.fused("layer_norm", layer_view, _kernels)
