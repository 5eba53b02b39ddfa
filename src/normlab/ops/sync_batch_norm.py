"""Batch norm over the batches of every process: one collective forward, one backward."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from normlab import errors
from normlab.kernels import formula
from normlab.kernels.view import batch_view
from normlab.ops.checks import mask_like
from normlab.ops.moments import Moments, unbiased


def sync_batch_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Moments]:
    """`batch_norm` by the statistics of the batches of all processes together.

    Each process sends its count, mean and sum of squares about that mean, and merges what all have sent. Batches may
    differ in size and in positions, and may be empty, as long as every process calls this.

    Shape:
        x: (N, C, *S), or C on another `axis`; N and S may differ between processes.

    Args:
        x: the values of this process.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        eps: added to the variance.
        axis: where the channels stand.
        mask: True where a value is real.
        group: of processes; all, if none is given.

    Returns:
        y, and the statistics of all processes, the same on each. The gradients of weight and bias are the share of this
        process, which `DistributedDataParallel` averages, as it does any other.

    Raises:
        InvalidInputError: the processes have one value a channel between them.

    Differs from torch:
        `torch.nn.SyncBatchNorm` needs a GPU.

    Source:
        Chan, Golub & LeVeque (1979), equation 1.5, for many parts at once.
    """
    whole = None if mask is None else mask_like("sync_batch_norm", x, mask, axis)
    y, mean, var, count = _SyncBatchNorm.apply(x, weight, bias, whole, eps, axis, group)  # type: ignore[no-untyped-call]
    return y, Moments(mean, unbiased(var, count), count)


def sync_moments_of(
    x: Tensor, *, axis: int = 1, mask: Tensor | None = None, group: dist.ProcessGroup | None = None
) -> Moments:
    """The statistics that `sync_batch_norm` returns, without normalizing."""
    whole = None if mask is None else mask_like("sync_batch_norm", x, mask, axis)
    mean, var, count = _of_all(*formula.moments_of(x.detach(), whole, batch_view(x, axis)), x.shape[axis], group)
    return Moments(mean, unbiased(var, count), count)


class _SyncBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Any, bias: Any, mask: Any, eps: float, axis: int, group: Any
    ) -> tuple[Any, ...]:
        view = batch_view(x, axis)
        own = formula.moments_of(x, mask, view)
        mean, var, count = _of_all(*own, x.shape[axis], group)
        _check_values(group, mask, count)
        rstd = (var + eps).rsqrt().masked_fill(count == 0, 0.0)
        ctx.save_for_backward(x, weight, mask, mean, rstd, count)
        ctx.view, ctx.group, ctx.with_bias = view, group, bias is not None
        ctx.mark_non_differentiable(mean, var, count)
        return formula.normalize_with(x, weight, bias, mask, mean, rstd, view), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *of_statistics: Any) -> tuple[Any, ...]:
        x, weight, mask, mean, rstd, count = ctx.saved_tensors
        dweight, dbias = formula.sums_of(dy, x, mask, mean, rstd, ctx.view)
        both = torch.stack([dweight, dbias]).double()
        dist.all_reduce(both, group=ctx.group)
        dx = formula.gradient_with(
            dy, x, weight, mask, mean, rstd, ctx.view, *(both / count.clamp(min=1)).to(dweight.dtype)
        )
        return (
            dx,
            None if weight is None else dweight.to(weight.dtype),
            None if not ctx.with_bias else dbias.to(dy.dtype if weight is None else weight.dtype),
            None, None, None, None,
        )  # fmt: skip


def _of_all(mean: Tensor, var: Tensor, count: Any, channels: int, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and count over all processes; sent in float64, where a count is exact."""
    own = torch.zeros(2 * channels + 1, dtype=torch.float64, device=mean.device)
    own[0] = count if isinstance(count, int) else count[0]
    if own[0] > 0:
        own[1 : channels + 1], own[channels + 1 :] = mean, var * own[0]
    world = dist.get_world_size(group)
    sent = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(sent, own, group=group)
    every = torch.stack(sent)
    counts, means, squares = every[:, :1], every[:, 1 : channels + 1], every[:, channels + 1 :]
    total = counts.sum()
    some = total.clamp(min=1)
    merged = (counts * means).sum(0) / some
    spread = (squares + counts * (means - merged).square()).sum(0) / some
    return merged.to(mean.dtype), spread.to(mean.dtype), total


def _check_values(group: Any, mask: Tensor | None, total: Tensor) -> None:
    """Where a mask leaves so little, it is as in one process: the bias comes out, and no spread is committed."""
    if mask is None and total <= 1:
        problem = errors.Problem(
            "Expected more than 1 value per channel when training.",
            got=f"{int(total)} in all of {dist.get_world_size(group)} processes",
            fix="pass more samples, or `eval()` if this is evaluation.",
        )
        errors.invalid_input("sync_batch_norm", [problem])
