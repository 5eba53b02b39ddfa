"""Ghost batch norm: a large batch normalized in small parts."""

from typing import Any

import torch
from torch import Tensor, nn

from normlab import errors
from normlab.layers.batch_norm import BatchNormOptions
from normlab.ops.batch_norm import batch_norm
from normlab.ops.checks import mask_like
from normlab.ops.moments import Moments


class _Ghost(BatchNormOptions):
    """Each part is normalized by its own statistics, and is a commit of its own, in order."""

    whole = False
    why_not_synced = "it normalizes in parts that are smaller than the batch of one process"

    def __init__(self, num_features: int, virtual_batch: int, **arguments: Any) -> None:
        if not isinstance(virtual_batch, int) or virtual_batch < 1:
            problem = errors.Problem("`virtual_batch` must be a whole number, at least 1.", got=repr(virtual_batch))
            errors.invalid_input(type(self).__name__, [problem])
        super().__init__(num_features, **arguments)
        self.virtual_batch = virtual_batch

    def _by_batch_statistics(self, x: Tensor, mask: Tensor | None, commit: bool) -> tuple[Tensor, list[Moments]]:
        self._check_values(x)
        self._check_eps()
        channels = self.axis % x.ndim
        samples = 0 if channels else 1  # the batch is the first dimension that is not that of the channels
        positions = x.numel() // max(x.shape[channels] * x.shape[samples], 1)
        if self.virtual_batch * positions == 1:
            rule = "Expected more than 1 value per channel in each part when training."
            got = f"virtual_batch = 1; {errors.describe(input=x)}"
            problem = errors.Problem(rule, got=got, fix="take a larger `virtual_batch`.")
            errors.invalid_input(type(self).__name__, [problem])
        sizes = _parts(x.shape[samples], self.virtual_batch, positions)
        masks: list[Tensor | None] = [None] * len(sizes)
        if mask is not None:
            whole = mask_like(type(self).__name__, x, mask, channels)
            masks = list(whole.select(channels, 0).split(sizes))
        parts = [
            batch_norm(part, self.weight, self.bias, eps=self.eps, axis=self.axis, mask=real, statistics=commit)
            for part, real in zip(x.split(sizes, samples), masks, strict=True)
        ]
        return torch.cat([y for y, _ in parts], samples), [moments for _, moments in parts] if commit else []

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, virtual_batch={self.virtual_batch}"


def _parts(samples: int, virtual_batch: int, positions: int) -> list[int]:
    """Sizes of the parts; what is left over is a part if it has two values a channel, and else joins the last.

    Example:
        >>> _parts(9, 4, positions=1), _parts(10, 4, positions=1), _parts(9, 4, positions=6), _parts(3, 4, 1)
        ([4, 5], [4, 4, 2], [4, 4, 1], [3])
    """
    whole, left = divmod(samples, virtual_batch)
    sizes = [virtual_batch] * whole
    if left * positions > 1 or not sizes:
        return [*sizes, left]
    return [*sizes[:-1], sizes[-1] + left]


class GhostBatchNorm1d(_Ghost, nn.BatchNorm1d):
    """Batch norm over parts of the batch, of `virtual_batch` samples each.

    In evaluation it is batch norm. A last part with a single value a channel joins the one before.

    Shape:
        (N, C) or (N, C, L), or the channels on another `axis` → the same.

    Args:
        num_features: channels.
        virtual_batch: samples in a part.
        arguments: those of `BatchNorm1d`.

    Raises:
        InvalidInputError: `virtual_batch` is below 1.

    Source:
        Hoffer, Hubara & Soudry (2017), algorithm 1.

    Example:
        >>> layer = GhostBatchNorm1d(1, virtual_batch=2, eps=1e-12)
        >>> layer(torch.tensor([[0.0], [2.0], [10.0], [14.0]])).flatten().detach()
        tensor([-1.,  1., -1.,  1.])
    """


class GhostBatchNorm2d(_Ghost, nn.BatchNorm2d):
    """Batch norm over parts of the batch; the arguments are those of `GhostBatchNorm1d`.

    Shape:
        (N, C, H, W) → the same.
    """


class GhostBatchNorm3d(_Ghost, nn.BatchNorm3d):
    """Batch norm over parts of the batch; the arguments are those of `GhostBatchNorm1d`.

    Shape:
        (N, C, D, H, W) → the same.
    """
