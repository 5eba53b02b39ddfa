"""Batch norm: moments over (N, S) for each channel."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from normlab.kernels import formula
from normlab.kernels.activation import After
from normlab.kernels.pick import pick
from normlab.kernels.view import batch_view, statistics_dtype
from normlab.ops import fused
from normlab.ops.checks import mask_like
from normlab.ops.moments import Moments, unbiased
from normlab.ops.registered import Kernels, registered


def batch_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Tensor | None = None,
    statistics: bool = True,
) -> tuple[Tensor, Moments]:
    """Batch norm by the statistics of the batch, and these statistics; nothing is changed in place.

    Shape:
        x: (N, C, *S), or C on another `axis`. weight, bias: (C,). mask: broadcastable to (N, *S). y: as x.

    Args:
        x: the values.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        eps: added to the variance.
        axis: where the channels stand.
        mask: True where a value is real. Padding is normalized too, by the moments of what is real; NaN, infinite and
            enormous padding comes out as 0.
        statistics: whether the statistics are wanted; otherwise they may be zeros.

    Returns:
        y, and mean, unbiased variance and count, in float32 at least. They are taken as constants: no gradient goes
        through what is returned of them.

    Raises:
        InvalidInputError: the mask is not boolean or does not fit.

    Differs from torch:
        `torch.nn.functional.batch_norm` updates the running statistics in place, has no mask and no axis.

    Source:
        Ioffe & Szegedy (2015), algorithm 1.

    Example:
        >>> y, moments = batch_norm(torch.tensor([[1.0], [2.0], [3.0], [6.0]]), eps=0.5)
        >>> y.flatten(), moments
        (tensor([-1.0000, -0.5000,  0.0000,  1.5000]), Moments(mean=tensor([3.]), var=tensor([4.6667]), count=4))
    """
    backend = pick("batch_norm", x, mask, axis)
    if backend == "stock":
        return _stock(x, weight, bias, eps, axis, statistics)
    count: Tensor | int = x.numel() // max(x.shape[axis], 1)
    if backend == "fused":
        y, found_of = fused_batch_norm(x, weight, bias, sets=axis, eps=eps)
        return y, moments_from(found_of, x.numel() // x.shape[axis])
    if mask is not None:
        mask = mask_like("batch_norm", x, mask, axis)
        count = mask.select(axis, 0).sum().double()
    if backend == "formula":
        found = formula.normalize(x, weight, bias, mask, batch_view(x, axis), eps)
        y, mean, var = found.y, found.mean.detach(), found.var.detach()
    else:
        y, mean, _, var = registered_batch_norm(x, weight, bias, mask, axis, eps)
    return y, Moments(mean, unbiased(var, count), count)


def batch_norm_act(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, after: After, *, eps: float, axis: int,
    given: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Batch norm with what follows, by our kernels; and its statistics, as these keep them.

    Shape:
        x: (N, C, *S), or C on another `axis`. weight, bias: (C,). statistics: (4, C).

    Args:
        x: the values.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        after: a residual that is added, and an activation.
        eps: added to the variance.
        axis: where the channels stand.
        given: mean and variance to normalize by, which are constants.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [6.0]])
        >>> batch_norm_act(x, None, None, After("relu"), eps=0.5, axis=1)[0].flatten()
        tensor([0.0000, 0.0000, 0.0000, 1.5000])
    """
    known = None
    if given is not None:
        mean, var = (each.to(statistics_dtype(x)) for each in given)
        known = torch.stack([mean, torch.zeros_like(mean), (var + eps).rsqrt(), var])
    found: tuple[Tensor, Tensor] = fused_batch_norm(x, weight, bias, sets=axis, eps=eps, after=after, given=known)
    return found


def moments_from(statistics: Tensor, count: int) -> Moments:
    """What may be committed, of what the kernels keep."""
    mean, _, _, var = statistics.unbind()
    return Moments(mean, unbiased(var, count), count)


def commit_into(
    mean: Tensor, var: Tensor, commits: Tensor, statistics: Tensor, momentum: float, count: int
) -> bool | None:
    """Moves running statistics towards those that the kernels found, in place.

    Shape:
        mean, var: (C,). statistics: (4, C).

    Args:
        mean: running mean.
        var: running variance.
        commits: how often this was done.
        statistics: of `batch_norm_act`.
        momentum: the share of the new ones.
        count: values behind each of them.

    Returns:
        Whether they were finite, as otherwise nothing is changed; or None if there is no kernel for such buffers.
    """
    running = _running()
    if not running.serves(mean, var, commits, statistics):
        return None
    taken: bool = running.move(mean, var, commits, statistics, momentum, count)
    return taken


def batch_norm_with(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float, axis: int,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Batch norm by given statistics, which are constants: one linear map.

    Shape:
        x: (N, C, *S), or C on another `axis`. mean, var, weight, bias: (C,). mask: broadcastable to (N, *S).
    """
    if mask is not None:
        lost = formula.junk(x, mask_like("batch_norm", x, mask, axis))
        y = batch_norm_with(x.masked_fill(lost, 0.0), mean, var, weight, bias, eps=eps, axis=axis)
        return y.masked_fill(lost, 0.0)
    if torch.is_grad_enabled() and not torch.compiler.is_exporting():
        mean, var = mean.clone(), var.clone()  # backward needs them, and a commit may come before it
    if x.dtype != mean.dtype:  # PyTorch mixes a 16-bit input with float32 parameters, if all of these are
        weight, bias = (None if each is None else each.to(mean.dtype) for each in (weight, bias))
    moved = _channels_second(x, axis)
    return _back(functional.batch_norm(moved, mean, var, weight, bias, False, 0.0, eps), x, axis)


def moments_of(x: Tensor, *, axis: int = 1, mask: Tensor | None = None) -> Moments:
    """The statistics that `batch_norm` returns, without normalizing."""
    mask = None if mask is None else mask_like("batch_norm", x, mask, axis)
    mean, var, count = formula.moments_of(x.detach(), mask, batch_view(x, axis))
    count = count if isinstance(count, int) else count[0]
    return Moments(mean, unbiased(var, count), count)


def batch_norm_into(
    x: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor | None, bias: Tensor | None,
    momentum: float | None, eps: float, axis: int,
) -> Tensor:  # fmt: skip
    """PyTorch's batch norm by the statistics of the batch, of which it writes a share into `mean` and `var`."""
    if (weight is not None and weight.dtype != x.dtype) or x.dtype in (torch.float16, torch.bfloat16):
        dtype = statistics_dtype(x)  # a 16-bit input goes with float32 parameters, if all of these are
        weight, bias = (None if each is None else each.to(dtype) for each in (weight, bias))
    share = 0.0 if momentum is None else momentum
    cudnn = not x.is_cpu and torch.backends.cudnn.enabled  # asking costs 3 µs
    if axis == 1:
        return torch.batch_norm(x, weight, bias, mean, var, True, share, eps, cudnn)
    y = torch.batch_norm(_channels_second(x, axis), weight, bias, mean, var, True, share, eps, cudnn)
    return _back(y, x, axis)


def _stock(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, axis: int, statistics: bool
) -> tuple[Tensor, Moments]:
    """With momentum 1, what PyTorch takes for the running statistics becomes that of the batch."""
    mean = torch.zeros(x.shape[axis], dtype=statistics_dtype(x), device=x.device)
    var = torch.zeros_like(mean)
    written = mean if statistics else None, var if statistics else None  # ONNX cannot follow a write
    y = batch_norm_into(x, *written, weight, bias, 1.0, eps, axis)
    count = x.numel() // max(x.shape[axis], 1)
    return y, Moments(mean, var if count > 1 else var.zero_(), count)  # which is NaN for a single value


def _channels_second(x: Tensor, axis: int) -> Tensor:
    """(N, C, *S); with the channels last, (N · S, C), which needs no copy."""
    if axis == 1:
        return x
    return x.reshape(-1, x.shape[-1]) if axis in (-1, x.ndim - 1) else x.movedim(axis, 1)


def _back(y: Tensor, x: Tensor, axis: int) -> Tensor:
    if axis == 1:
        return y
    return y.reshape(x.shape) if axis in (-1, x.ndim - 1) else y.movedim(1, axis)


def _forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mask: Tensor | None, sets: int, eps: float
) -> tuple[Tensor, ...]:
    if mask is not None:
        return tuple(formula.normalize(x, weight, bias, mask, batch_view(x, sets), eps))
    y, moments = _stock(x, weight, bias, eps, sets, True)
    var = moments.var * ((moments.count - 1) / max(moments.count, 1))
    return y, moments.mean, (var + eps).rsqrt(), var


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor | None, mask: Tensor | None, mean: Tensor, rstd: Tensor, sets: int, eps: float
) -> tuple[Tensor, ...]:
    if mask is not None or sets != 1:
        return formula.gradients(dy, x, weight, mask, mean, rstd, batch_view(x, sets))
    scale = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
    found: tuple[Tensor, ...] = torch.ops.aten.native_batch_norm_backward(
        dy, x, scale, None, None, mean, rstd, True, eps, [True, True, True]
    )
    return found


registered_batch_norm = registered("batch_norm", batch_view, Kernels(_forward, _backward))


@cache
def _running() -> Any:
    from normlab.kernels.cpu import running

    return running


@cache
def _kernels() -> fused.Kernels:
    from normlab.kernels.cpu.batch_norm import batch_norm_bwd, batch_norm_fwd

    return fused.Kernels(batch_norm_fwd, batch_norm_bwd)


fused_batch_norm = fused.fused("batch_norm", batch_view, _kernels)
