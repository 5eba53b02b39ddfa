"""Batch norms as other libraries write them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from normlab import layers


class CallsSuper(nn.BatchNorm1d):
    """With an activation behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(super().forward(x))


class Own(nn.BatchNorm1d):
    """As timm's `BatchNormAct2d`."""

    def forward(self, x: Tensor) -> Tensor:
        tracked = self.training and self.track_running_stats
        if tracked:
            self.num_batches_tracked.add_(1)
        statistics = self.running_mean, self.running_var
        if self.training and not self.track_running_stats:
            statistics = None, None
        y = functional.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)
        return torch.relu(y)


class CallsOwn(Own):
    """`super()` leads to a forward that does not go on."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class OwnInstance(nn.InstanceNorm1d):
    """Asks for nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.instance_norm(
            x[..., None].expand(-1, -1, 2), self.running_mean, self.running_var, momentum=self.momentum
        )[..., 0]


class Alien(nn.Module):
    """No subclass of anything."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.running_mean = 0.9 * self.running_mean + 0.1 * x.mean(0)
        return x - x.mean(0)


def patched() -> nn.Module:
    """Its forward is one of the instance, as some tools leave it."""
    layer = nn.BatchNorm1d(3)
    inner = layer.forward
    layer.forward = lambda x: inner(x) * 2
    return layer


MAKERS: dict[str, Any] = {
    "ours": lambda: layers.BatchNorm1d(3),
    "ours, always": lambda: layers.BatchNorm1d(3, commit_when="always"),
    "ours, debiased": lambda: layers.BatchNorm1d(3, rule="debiased"),
    "renorm": lambda: layers.BatchRenorm1d(3, schedule=(0, 0, 0)),
    "ghost": lambda: layers.GhostBatchNorm1d(3, virtual_batch=2),
    "domains": lambda: layers.DomainBatchNorm1d(3, ["a", "b"]),
    "stock": lambda: nn.BatchNorm1d(3),
    "stock, average": lambda: nn.BatchNorm1d(3, momentum=None),
    "calls super": lambda: CallsSuper(3),
    "own forward": lambda: Own(3),
    "calls an own forward": lambda: CallsOwn(3),
    "patched": patched,
    "own instance norm": lambda: OwnInstance(3, track_running_stats=True),
    "alien": lambda: Alien(3),
}
