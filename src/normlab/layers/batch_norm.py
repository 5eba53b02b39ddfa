"""Batch norm with explicit statistics."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.compiler import is_compiling

from normlab import errors
from normlab.kernels.activation import NOTHING, After
from normlab.kernels.pick import is_small, pick
from normlab.layers.explicit import NARROW, Explicit, in_backward
from normlab.layers.held import held
from normlab.ops.batch_norm import batch_norm, batch_norm_act, batch_norm_into, commit_into, moments_from
from normlab.ops.moments import Moments
from normlab.ops.sync_batch_norm import sync_batch_norm, sync_moments_of


class BatchNormOptions(Explicit):
    """The arguments of PyTorch's layer, then ours."""

    OPTIONS = (*Explicit.OPTIONS, "synced")
    synced: bool = False
    process_group: dist.ProcessGroup | None = None
    why_not_synced = ""  # of those whose statistics are not those of one whole batch
    whole = True  # normalizes the batch as one

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype, bias=bias
        )
        self.set_options(**options)
        self.widen()
        self.count_skipped()

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._with_what_follows(input, mask, NOTHING)

    def _with_what_follows(self, x: Tensor, mask: Tensor | None, after: After) -> Tensor:
        if mask is None and is_small("batch_norm", x) and (buffers := self._written_by_step()):
            return after.of_fresh(self._as_torch(x, *buffers))
        if mask is None and isinstance(x, Tensor) and self.whole and not self._together():
            backend = pick("batch_norm", x, None, self.axis, after, given=not self._by_batch())
            if backend == "fused" and self._all_in_one(x):
                return self._by_kernel(x, after)
            if after.residual is not None or after.activation in ("silu", "gelu"):  # the norm alone may have a kernel
                return after.of(self._with_what_follows(x, None, NOTHING))
            if backend == "stock" and (buffers := self._written_by_step()):
                return after.of_fresh(self._as_torch(x, *buffers))
        return after.of(super().forward(x, mask))

    def _written_by_step(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """The buffers, if this is the training step of PyTorch's layer, of a whole batch, and it can write them."""
        mean, var, commits = self.running()
        if (
            mean is None or var is None or commits is None or var.dtype in NARROW
            or not self.whole or not self._is_plain() or self._together() or in_backward()
        ):  # fmt: skip
            return None
        return mean, var, commits

    def _all_in_one(self, x: Tensor) -> bool:
        """Not where it is committed what does not normalize."""
        return -x.ndim <= self.axis < x.ndim and (self._by_batch() or not self._commits())

    def _by_kernel(self, x: Tensor, after: After) -> Tensor:
        learned = self._learned()
        how: dict[str, Any] = {"eps": self.eps, "axis": self.axis}
        if not self._by_batch():
            self._check_input_dim(x)  # type: ignore[no-untyped-call]
            self._check_channels(x)
            mean, var, _ = self.running()
            if mean is not None and var is not None:
                return batch_norm_act(x, *learned, after, **how, given=(mean, var))[0]
        self._check(x)
        y, statistics = batch_norm_act(x, *learned, after, **how)
        if self._commits():
            self._commit_of_kernel(statistics, x.numel() // self.num_features)
        return y

    def _commit_of_kernel(self, statistics: Tensor, count: int) -> None:
        buffers, momentum, taken = self._written_by_step(), self.momentum, None
        if buffers and momentum is not None and not is_compiling():
            taken = commit_into(*buffers, statistics, momentum, count)
        if taken is None:
            self._commit([moments_from(statistics.detach(), count)])
        elif not taken:
            self.refuse()

    def _is_plain(self) -> bool:
        """Whether this is the training step of PyTorch's layer, where one process sees the whole batch."""
        return (
            self.training and self.track_running_stats and self.taker is None
            and self.normalize_with == self.commit_when == "mode" and self.rule == "ema" and self.momentum is not None
        )  # fmt: skip

    def _as_torch(self, x: Tensor, mean: Tensor, var: Tensor, commits: Tensor) -> Tensor:
        """PyTorch computes the new running statistics, the same to the bit."""
        self._check(x)
        how: tuple[Any, ...] = *self._learned(), self.momentum, self.eps, self.axis
        if var.is_cpu and type(var) is Tensor and not is_compiling():
            mine = self.__dict__["held"] = held(self.__dict__.get("held"), mean, var, commits)
            mine.save()
            y = batch_norm_into(x, mine.mean, mine.var, *how)
            if not mine.accept():
                self.refuse()
            return y
        new_mean, new_var = mean.clone(), var.clone()
        y = batch_norm_into(x, new_mean, new_var, *how)
        self.take(new_mean, new_var)
        return y

    def _learned(self) -> tuple[Any, Any]:
        held = self._parameters
        if "weight" in held and "bias" in held:
            return held["weight"], held["bias"]
        return self.weight, self.bias  # a parametrization computes them

    def _check(self, x: Tensor) -> None:
        """Of a batch that is to be normalized by its own statistics."""
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        if self.axis != 1 or x.shape[1] != self.num_features or x.numel() <= self.num_features or self.eps <= 0:
            self._check_channels(x)  # each in full, as they are rarely needed
            self._check_values(x)
            self._check_eps()

    def _by_batch_statistics(self, x: Tensor, mask: Tensor | None, commit: bool) -> tuple[Tensor, list[Moments]]:
        learned: tuple[Any, Any] = self.weight, self.bias
        how: dict[str, Any] = {"eps": self.eps, "axis": self.axis, "mask": mask}
        if self._together():
            y, moments = sync_batch_norm(x, *learned, **how, group=self.process_group)
        else:
            self._check_values(x)
            self._check_eps()
            y, moments = batch_norm(x, *learned, **how, statistics=commit)
        return y, [moments] if commit else []

    def _moments(self, x: Tensor, mask: Tensor | None) -> Moments:
        if self._together():
            return sync_moments_of(x, axis=self.axis, mask=mask, group=self.process_group)
        return super()._moments(x, mask)

    def _contradictions(self, options: dict[str, Any]) -> Iterator[errors.Problem]:
        yield from super()._contradictions(options)
        if options.get("synced") and self.why_not_synced:
            yield errors.Problem("`synced` cannot be set.", got=self.why_not_synced)

    def _together(self) -> bool:
        return self.synced and dist.is_available() and dist.is_initialized()

    def _check_eps(self) -> None:
        if self.eps <= 0:
            rule = "eps must be positive in training, where a channel may have no spread."
            problem = errors.Problem(rule, got=f"eps = {self.eps}", fix="PyTorch's is 1e-5.")
            errors.invalid_input(type(self).__name__, [problem])

    def __getstate__(self) -> dict[str, Any]:
        """A group of processes cannot be saved; what is loaded or copied is synchronized over all."""
        return {name: value for name, value in super().__getstate__().items() if name != "process_group"}


class BatchNorm1d(BatchNormOptions, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` with explicit statistics.

    Shape:
        (N, C) or (N, C, L), or the channels on another `axis`; with a mask broadcastable to (N, L). → the same.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics; None for their plain average.
        affine: whether there are `weight` and `bias`.
        track_running_stats: whether there are running statistics.
        device: where the parameters lie.
        dtype: of the parameters; `half()` later on leaves the running statistics in float32.
        bias: whether there is a `bias` beside the `weight`.
        normalize_with: `batch`, `running`, or by `mode`: batch in training and running in evaluation.
        commit_when: whether a forward moves the running statistics: `always`, `never`, or by `mode`: in training.
        rule: `ema`; `debiased`, without the weight of the start value; or `cumulative`, the average over batches.
        axis: where the channels stand. What can be checked is the size of that dimension: with as many positions as
            channels, a wrong axis is not seen.
        synced: whether batch statistics are taken over all processes of `torch.distributed`, if it is running.

    Differs from torch:
        Statistics that are not finite are not committed, nor are those of a forward that activation checkpointing
        repeats; both are counted. With its defaults everything else is as in PyTorch.

    Source:
        Ioffe & Szegedy (2015), algorithms 1 and 2.

    Example:
        >>> layer = BatchNorm1d(2, rule="debiased", axis=-1)
        >>> y = layer(torch.tensor([[[1.0, 2.0], [3.0, 2.0]]]))  # (N, L, C)
        >>> layer.running_mean, layer.running_var
        (tensor([2., 2.]), tensor([2., 0.]))
    """


class BatchNorm2d(BatchNormOptions, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` with explicit statistics; the arguments are those of `BatchNorm1d`.

    Shape:
        (N, C, H, W) → the same.

    Example:
        >>> layer = BatchNorm2d(3)
        >>> y = layer(torch.full((1, 3, 2, 2), torch.inf))
        >>> layer.running_var, int(layer.skipped_non_finite)
        (tensor([1., 1., 1.]), 1)
    """


class BatchNorm3d(BatchNormOptions, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` with explicit statistics; the arguments are those of `BatchNorm1d`.

    Shape:
        (N, C, D, H, W) → the same.
    """


class SyncBatchNorm(BatchNormOptions, nn.SyncBatchNorm):
    """`torch.nn.SyncBatchNorm` on any device, for what was built with that class; elsewhere set `synced`.

    Shape:
        (N, C, *S) → the same.
    """

    synced = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: dist.ProcessGroup | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias, **options)
        self.process_group = process_group
