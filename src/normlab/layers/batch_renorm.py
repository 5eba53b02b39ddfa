"""Batch renormalization: batch norm whose output in training is drawn to that of evaluation, within bounds."""

from typing import Any

import torch
from torch import Tensor, nn

from normlab import errors
from normlab.layers.batch_norm import BatchNormOptions
from normlab.ops.batch_norm import batch_norm, moments_of
from normlab.ops.moments import Moments, at_least_one, freedom


class _Renorm(BatchNormOptions):
    """y = weight · (x_hat · r + d) + bias, with constants r and d that lead from the batch to the running ones."""

    whole = False
    why_not_synced = "batch renormalization is not offered over several processes"

    def __init__(
        self,
        num_features: int,
        r_max: float = 3.0,
        d_max: float = 5.0,
        schedule: tuple[int, int, int] = (5_000, 40_000, 25_000),
        **arguments: Any,
    ) -> None:
        problems = []
        if not r_max >= 1:
            problems.append(errors.Problem("`r_max` must be at least 1.", got=f"r_max = {r_max}"))
        if not d_max >= 0:
            problems.append(errors.Problem("`d_max` must be at least 0.", got=f"d_max = {d_max}"))
        if len(schedule) != 3 or not 0 <= schedule[0] <= min(schedule[1:]):
            rule = "`schedule` must be three numbers of commits, the first of them the smallest."
            problems.append(errors.Problem(rule, got=f"schedule = {schedule}"))
        if not arguments.get("track_running_stats", True):
            problems.append(errors.Problem("`track_running_stats` must be True: they are what it is drawn to."))
        errors.invalid_input(type(self).__name__, problems)
        super().__init__(num_features, **arguments)
        self.r_max, self.d_max, self.schedule = r_max, d_max, schedule

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The largest r and d at this commit."""
        commits = self.get_buffer("num_batches_tracked").double()
        start, r_until, d_until = self.schedule
        r_share, d_share = (
            ((commits - start) / max(until - start, 1)).clamp(0, 1) if until > start else (commits >= start).double()
            for until in (r_until, d_until)
        )
        r_more, d = (
            (share * bound).nan_to_num(0.0, posinf=bound)  # 0 · ∞, where there is to be no bound later on
            for share, bound in ((r_share, self.r_max - 1), (d_share, self.d_max))
        )
        return 1 + r_more, d

    def _by_batch_statistics(self, x: Tensor, mask: Tensor | None, commit: bool) -> tuple[Tensor, list[Moments]]:
        self._check_values(x)
        self._check_eps()
        if commit:
            self._refuse_to_repeat()
        moments = moments_of(x, axis=self.axis, mask=mask)
        scale, shift = self._corrections(moments)
        weight = scale if self.weight is None else self.weight * scale
        shift = shift if self.weight is None else self.weight * shift
        bias = shift if self.bias is None else self.bias + shift
        y, _ = batch_norm(x, weight, bias, eps=self.eps, axis=self.axis, mask=mask, statistics=False)
        return y, [moments] if commit else []

    @torch.no_grad()
    def _corrections(self, moments: Moments) -> tuple[Tensor, Tensor]:
        mean, var, _ = self.running()
        if mean is None or var is None:
            return torch.ones_like(moments.mean), torch.zeros_like(moments.mean)
        biased = moments.var * (freedom(moments.count) / at_least_one(moments.count))
        running = (var + self.eps).sqrt()
        r_max, d_max = self.bounds()
        r = ((biased + self.eps).sqrt() / running).clamp(1 / r_max, r_max)
        d = ((moments.mean - mean) / running).clamp(-d_max, d_max)
        return r, d

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}, schedule={self.schedule}"


class BatchRenorm1d(_Renorm, nn.BatchNorm1d):
    """Batch renormalization: in training, batch norm corrected by r and d towards the running statistics.

    With the batch's σ_B and the running σ, both √(var + eps): r = σ_B / σ within [1 / r_max, r_max] and
    d = (mean − running_mean) / σ within [−d_max, d_max], taken as constants. In evaluation it is batch norm.

    Shape:
        (N, C) or (N, C, L), or the channels on another `axis` → the same.

    Args:
        num_features: channels.
        r_max: largest correction of the scale, at least 1.
        d_max: largest correction of the shift, at least 0.
        schedule: commits until which it is plain batch norm, at which `r_max` is reached, and at which `d_max` is.
            (0, 0, 0) sets both at once.
        arguments: those of `BatchNorm1d`.

    Raises:
        InvalidInputError: a bound is too small, or there are to be no running statistics; in backward, if the layer is
            under activation checkpointing, whose repeated forward finds running statistics that have moved.

    Differs from torch:
        torch has no such layer. The paper keeps a moving average of σ_B; here the running statistics are PyTorch's, so
        that they mean the same in every batch norm.

    Source:
        Ioffe (2017), algorithm 1; section 4.2 for the schedule.

    Example:
        >>> layer = BatchRenorm1d(1, eps=0.5, schedule=(0, 0, 0))
        >>> layer.running_mean.fill_(2.0), layer.running_var.fill_(0.5)
        (tensor([2.]), tensor([0.5000]))
        >>> layer(torch.tensor([[1.0], [2.0], [3.0], [6.0]])).flatten().detach()  # r = 2 and d = 1
        tensor([-1.,  0.,  1.,  4.])
    """


class BatchRenorm2d(_Renorm, nn.BatchNorm2d):
    """Batch renormalization; the arguments are those of `BatchRenorm1d`.

    Shape:
        (N, C, H, W) → the same.
    """


class BatchRenorm3d(_Renorm, nn.BatchNorm3d):
    """Batch renormalization; the arguments are those of `BatchRenorm1d`.

    Shape:
        (N, C, D, H, W) → the same.
    """
