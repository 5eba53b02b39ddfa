"""The one table from the name of a norm to its layer."""

from collections.abc import Callable

import torch
from torch import nn

from normlab.lab.config import RunConfig


class ChannelRMSNorm(nn.Module):
    """RMS norm over channels and positions of each sample, with one weight a channel.

    Shape:
        (N, C, *) → the same.

    Differs from torch:
        `torch.nn.RMSNorm` has one weight an element of the trailing dimensions, not a channel.

    Source:
        Zhang & Sennrich 2019, equation 4.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1)
        x_hat = nn.functional.rms_norm(flat, flat.shape[1:], eps=self.eps).view_as(x)
        return x_hat * self.weight.view(-1, *[1] * (x.ndim - 2))


def _batch(config: RunConfig, channels: int, spatial: int) -> nn.Module:
    kind = nn.BatchNorm2d if spatial else nn.BatchNorm1d
    return kind(channels, eps=config.norm_eps, momentum=config.norm_momentum)


def _layer(config: RunConfig, channels: int, spatial: int) -> nn.Module:
    # With one group, group norm is layer norm over channels and positions, with one weight a channel.
    return nn.GroupNorm(1, channels, config.norm_eps) if spatial else nn.LayerNorm(channels, config.norm_eps)


def _group(config: RunConfig, channels: int, spatial: int) -> nn.Module:
    return nn.GroupNorm(config.norm_groups, channels, config.norm_eps)


def _instance(config: RunConfig, channels: int, spatial: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, config.norm_eps, affine=True)


def _rms(config: RunConfig, channels: int, spatial: int) -> nn.Module:
    return ChannelRMSNorm(channels, config.norm_eps) if spatial else nn.RMSNorm(channels, config.norm_eps)


# name → layer for `channels` channels, at (N, C) if `spatial` is 0 and at (N, C, H, W) if it is 2
NORMS: dict[str, Callable[[RunConfig, int, int], nn.Module] | None] = {
    "none": None,
    "batch": _batch,
    "layer": _layer,
    "group": _group,
    "instance": _instance,
    "rms": _rms,
}


def norm_layer(config: RunConfig, channels: int, spatial: int = 0) -> nn.Module | None:
    """The layer that `config.norm` names, or None for `none`.

    Example:
        >>> norm_layer(RunConfig(norm="batch"), 16)
        BatchNorm1d(16, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """
    build = NORMS[config.norm]
    return build(config, channels, spatial) if build else None
