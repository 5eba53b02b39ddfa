"""Group norm: moments over (C/G, S) for each sample and group; with as many groups as channels it is instance norm."""

from functools import cache

from torch import Tensor
from torch.nn import functional

from normlab.kernels import formula
from normlab.kernels.pick import pick
from normlab.kernels.view import group_view
from normlab.ops import fused
from normlab.ops.checks import mask_like
from normlab.ops.registered import registered


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    mask: Tensor | None = None,
) -> Tensor:
    """Group norm over the channels of a group and all positions of a sample.

    Shape:
        x: (N, C, *S). weight, bias: (C,). mask: broadcastable to (N, *S). y: as x.

    Args:
        x: the values.
        groups: into how many groups the channels are split.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        eps: added to the variance.
        mask: True where a value is real. Padding is normalized too, by the moments of what is real; NaN, infinite and
            enormous padding comes out as 0. A sample without any real position comes out as the bias.

    Returns:
        The normalized values.

    Raises:
        InvalidInputError: the mask is not boolean or does not fit.

    Differs from torch:
        `torch.nn.functional.group_norm` has no mask.

    Source:
        Wu & He (2018), equation 7; Ulyanov, Vedaldi & Lempitsky (2016) for instance norm.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]])
        >>> group_norm(x, 1, eps=0.5, mask=torch.tensor([True, True, False]))
        tensor([[[-1.0000, -0.5000,  3.0000],
                 [ 0.0000,  1.5000,  3.0000]]])
    """
    backend = pick("group_norm", x, mask, groups)
    if backend == "fused" and x.shape[1] % groups == 0:
        found: Tensor = fused_group_norm(x, weight, bias, sets=groups, eps=eps)[0]
        return found
    if backend in ("fused", "stock"):
        return functional.group_norm(x, groups, weight, bias, eps)
    mask = None if mask is None else mask_like("group_norm", x, mask, 1)
    if backend == "formula":
        return formula.normalize(x, weight, bias, mask, group_view(x, groups), eps).y
    y: Tensor = registered_group_norm(x, weight, bias, mask, groups, eps)[0]
    return y


registered_group_norm = registered("group_norm", group_view)


@cache
def _kernels() -> fused.Kernels:
    from normlab.kernels.cpu import group_norm

    return fused.Kernels(
        lambda x, weight, bias, sets, eps, after, given: group_norm.group_norm_fwd(x, weight, bias, sets, eps),
        lambda dy, x, weight, bias, statistics, sets, after, given: (
            *group_norm.group_norm_bwd(dy, x, weight, statistics, sets),
            None,
        ),
    )


fused_group_norm = fused.fused("group_norm", group_view, _kernels)
