"""Instance norm with explicit statistics, and masks."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from normlab import errors
from normlab.kernels.formula import moments_of
from normlab.kernels.pick import pick
from normlab.kernels.view import group_view, statistics_dtype
from normlab.layers.explicit import Explicit
from normlab.ops.checks import mask_like
from normlab.ops.group_norm import fused_group_norm, group_norm
from normlab.ops.moments import Moments, at_least_one, unbiased


class _Instance(Explicit):
    """Moments of each sample and channel; what is committed is their average over the samples, as in PyTorch."""

    OPTIONS = ("normalize_with", "commit_when", "rule")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.set_options(**options)
        self.widen()
        self.count_skipped()

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        if isinstance(input, Tensor) and input.ndim == self._get_no_batch_dim():  # type: ignore[operator]
            return super().forward(input.unsqueeze(0), None if mask is None else mask.unsqueeze(0)).squeeze(0)
        return super().forward(input, mask)

    def _by_batch(self) -> bool:
        return not self.track_running_stats or super()._by_batch()

    def _by_batch_statistics(self, x: Tensor, mask: Tensor | None, commit: bool) -> tuple[Tensor, list[Moments]]:
        self._check_values(x)
        backend = pick("instance_norm", x, mask, x.shape[1])
        if backend == "stock":
            return self._by_stock(x, commit)
        if backend == "fused":
            y, found = fused_group_norm(x, self.weight, self.bias, sets=x.shape[1], eps=self.eps)
            return y, [self._average(found[0], found[3], x)] if commit else []
        y = group_norm(x, x.shape[1], self.weight, self.bias, eps=self.eps, mask=mask)
        return y, [self._moments(x, mask)] if commit else []

    def _by_stock(self, x: Tensor, commit: bool) -> tuple[Tensor, list[Moments]]:
        """With momentum 1 it writes the average over the samples into what it takes for the running statistics."""
        if not commit:
            return functional.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps), []
        mean = torch.zeros(self.num_features, dtype=statistics_dtype(x), device=x.device)
        var = torch.zeros_like(mean)
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        if x.dtype != mean.dtype:  # without parameters of the wider one, the statistics would be rounded as x is
            weight = torch.ones_like(mean) if weight is None else weight.to(mean.dtype)
            bias = None if bias is None else bias.to(mean.dtype)
        y = functional.instance_norm(x, mean, var, weight, bias, True, 1.0, self.eps)
        return y, [Moments(mean, var, x.numel() // max(self.num_features, 1))]

    def _moments(self, x: Tensor, mask: Tensor | None) -> Moments:
        """The average over the samples: means of those with a real position, variances of those with two."""
        whole = None if mask is None else mask_like(type(self).__name__, x, mask, 1)
        mean, var, count = moments_of(x.detach(), whole, group_view(x, x.shape[1]))
        if isinstance(count, int):
            return self._average(mean, var, x)
        sets, positions = x.shape[:2], math.prod(x.shape[2:])
        some, spread = (count.view(sets) >= least for least in (1, 2))
        mean, var = (
            (each.view(sets) * real).sum(0) / real.sum(0).clamp(min=1)
            for each, real in ((mean, some), (unbiased(var, count), spread))
        )
        samples, known = some[:, 0].sum().double(), spread[:, 0].any()
        return Moments(mean, var, torch.where(known, samples * positions, samples.clamp(max=1)))

    @staticmethod
    def _average(mean: Tensor, var: Tensor, x: Tensor) -> Moments:
        sets, positions = x.shape[:2], math.prod(x.shape[2:])
        mean, var = (each.detach().view(sets).mean(0) for each in (mean, unbiased(var, positions)))
        return Moments(mean, var, x.shape[0] * positions if positions > 1 else min(x.shape[0], 1))

    def pooled(self, one: Moments, other: Moments) -> Moments:
        """An average as well: the spread between samples is no part of what is committed."""
        count = one.count + other.count
        share = other.count / at_least_one(count)
        mean, var = (a + (b - a) * share for a, b in ((one.mean, other.mean), (one.var, other.var)))
        return Moments(mean, var, count)

    @property
    def _counts(self) -> bool:  # type: ignore[override]
        """PyTorch has the counter and leaves it at 0; the other rules need it."""
        return self.rule != "ema"

    def _check_values(self, x: Tensor) -> None:
        """Of a single position the variance is 0, and the output would be the bias."""
        if math.prod(x.shape[2:]) == 1:
            where = type(self).__name__
            rule = "Expected more than 1 spatial element when training."
            fix = "use layer or group norm where the maps are of one position."
            errors.invalid_input(where, [errors.Problem(rule, got=errors.describe(input=x), fix=fix)])

    def _check_channels(self, x: Tensor) -> None:
        if self.affine or self.track_running_stats:
            super()._check_channels(x)


class InstanceNorm1d(_Instance, nn.InstanceNorm1d):
    """`torch.nn.InstanceNorm1d` with explicit statistics, and masks.

    Shape:
        (N, C, L) or (C, L), with a mask broadcastable to (N, L) or (L,) → the same.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics.
        affine: whether there are `weight` and `bias`.
        track_running_stats: whether there are running statistics, used in evaluation.
        device: where the parameters lie.
        dtype: of the parameters; `half()` later on leaves the running statistics in float32.
        bias: whether there is a `bias` beside the `weight`.
        normalize_with: `batch` (the sample itself), `running`, or by `mode`, as in PyTorch.
        commit_when: whether a forward moves the running statistics: `always`, `never`, or by `mode`: in training.
        rule: `ema`, `debiased` or `cumulative`.

    Differs from torch:
        Statistics that are not finite are not committed, nor are those of a forward that activation checkpointing
        repeats; both are counted.

    Source:
        Ulyanov, Vedaldi & Lempitsky (2016).

    Example:
        >>> layer = InstanceNorm1d(1, eps=0.5)
        >>> layer(torch.tensor([[[1.0, 2.0, 3.0, 6.0, 99.0]]]), mask=torch.arange(5) < 4)
        tensor([[[-1.0000, -0.5000,  0.0000,  1.5000, 48.0000]]])
    """


class InstanceNorm2d(_Instance, nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d` with explicit statistics, and masks; the arguments are those of `InstanceNorm1d`.

    Shape:
        (N, C, H, W) or (C, H, W) → the same.
    """


class InstanceNorm3d(_Instance, nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` with explicit statistics, and masks; the arguments are those of `InstanceNorm1d`.

    Shape:
        (N, C, D, H, W) or (C, D, H, W) → the same.
    """
