"""RMS norm: layer norm that leaves the mean out."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from normlab.kernels import formula
from normlab.kernels.activation import After
from normlab.kernels.pick import pick
from normlab.kernels.view import View, layer_view, statistics_dtype
from normlab.ops import fused
from normlab.ops.checks import mask_like
from normlab.ops.registered import registered


def rms_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    *,
    eps: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """RMS norm over the last dimensions.

    Shape:
        x: (*, *normalized_shape). weight: normalized_shape. mask: broadcastable to x. y: as x.

    Args:
        x: the values.
        normalized_shape: the last dimensions of `x`, which share a root mean square.
        weight: scale, or None for 1.
        eps: added to the mean square; None for the smallest step of the dtype it is computed in, as in PyTorch.
        mask: True where a value is real, as in `layer_norm`.

    Returns:
        The normalized values.

    Raises:
        InvalidInputError: the mask is not boolean or does not fit.

    Differs from torch:
        `torch.nn.functional.rms_norm` has no mask.

    Source:
        Zhang & Sennrich (2019), equation 4.

    Example:
        >>> rms_norm(torch.tensor([[3.0, 4.0]]), [2], eps=0.0)
        tensor([[0.8485, 1.1314]])
    """
    dims, added = len(normalized_shape), torch.finfo(statistics_dtype(x)).eps if eps is None else eps
    backend = pick("rms_norm", x, mask, dims)
    if backend == "fused" and x.shape[-dims:] == torch.Size(normalized_shape):
        found: Tensor = fused_rms_norm(x, weight, None, sets=dims, eps=added)[0]
        return found
    if backend in ("fused", "stock"):
        return functional.rms_norm(x, normalized_shape, weight, eps)
    mask = None if mask is None else mask_like("rms_norm", x, mask, None)
    if backend == "formula":
        return formula.normalize(x, weight, None, mask, _view(x, dims), added).y
    y: Tensor = registered_rms_norm(x, weight, None, mask, dims, added)[0]
    return y


def _view(x: Tensor, dims: int) -> View:
    return layer_view(x, dims, center=False)


registered_rms_norm = registered("rms_norm", _view)


@cache
def _kernels() -> fused.Kernels:
    from normlab.kernels.cpu import rms_norm

    def backward(
        dy: Tensor,
        x: Tensor,
        weight: Tensor | None,
        bias: None,
        statistics: Tensor,
        sets: int,
        after: After,
        given: bool,
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        dx, dweight = rms_norm.rms_norm_bwd(dy, x, weight, statistics, sets)
        return dx, dweight, torch.empty_like(dweight), None

    return fused.Kernels(
        lambda x, weight, bias, sets, eps, after, given: rms_norm.rms_norm_fwd(x, weight, sets, eps), backward
    )


fused_rms_norm = fused.fused("rms_norm", _view, _kernels)
