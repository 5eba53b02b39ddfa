"""The one table from the name of a norm to its layer, with one weight a channel wherever it stands."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from normlab import layers

BATCH = {0: layers.BatchNorm1d, 1: layers.BatchNorm1d, 2: layers.BatchNorm2d, 3: layers.BatchNorm3d}
INSTANCE = {1: layers.InstanceNorm1d, 2: layers.InstanceNorm2d, 3: layers.InstanceNorm3d}


class NoNorm(nn.Identity):
    """Stands where a norm was, so that the place is still seen."""


class ChannelRMSNorm(nn.Module):
    """RMS norm over channels and positions of each sample, with one weight a channel.

    Shape:
        (N, C, *) → the same.

    Differs from torch:
        `torch.nn.RMSNorm` has one weight an element of the trailing dimensions, not a channel.

    Source:
        Zhang & Sennrich 2019, equation 4.
    """

    weight: nn.Parameter | None

    def __init__(self, channels: int, eps: float, affine: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # by the name that it has in the norms of torch
        flat = input.flatten(1)
        x_hat = nn.functional.rms_norm(flat, flat.shape[1:], eps=self.eps).view_as(input)
        return x_hat if self.weight is None else x_hat * self.weight.view(-1, *[1] * (input.ndim - 2))

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}, affine={self.weight is not None}"


class ChannelsLast(nn.Module):
    """A norm of (N, C, *) applied to (N, *, C), or to (L, N, C) with the samples in dimension 1.

    Shape:
        (N, *, C) → the same, contiguous, as the layer norm that stood there left it.
    """

    def __init__(self, norm: nn.Module, samples: int = 0) -> None:
        super().__init__()
        self.norm = norm
        self.samples = samples

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(input.movedim((self.samples, -1), (0, 1)))
        return y.movedim((0, 1), (self.samples, -1)).contiguous()

    def extra_repr(self) -> str:
        return f"samples={self.samples}" if self.samples else ""


def norm_in(module: nn.Module) -> nn.Module:
    """The norm itself, where it stands in a layer that turns its input round.

    Example:
        >>> norm_in(ChannelsLast(nn.Identity())), norm_in(nn.Identity())
        (Identity(), Identity())
    """
    return module.norm if isinstance(module, ChannelsLast) else module


@dataclass(frozen=True)
class Where:
    """The place of a norm: channels, and dimensions of positions (0 at (N, C), 2 at (N, C, H, W))."""

    channels: int
    spatial: int
    affine: bool = True
    bias: bool = True
    positions: int | None = None  # how many there are, if that is known


@dataclass(frozen=True)
class How:
    """The settings that norms have."""

    eps: float = 1e-5
    momentum: float = 0.1
    groups: int = 8


def _batch(where: Where, how: How) -> nn.Module:
    return BATCH[where.spatial](where.channels, how.eps, how.momentum, where.affine, bias=where.bias)


def _layer(where: Where, how: How) -> nn.Module:
    if where.spatial:  # with one group, group norm is layer norm over channels and positions, one weight a channel
        return layers.GroupNorm(1, where.channels, how.eps, where.affine, bias=where.bias)
    return layers.LayerNorm(where.channels, how.eps, where.affine, where.bias)


def _group(where: Where, how: How) -> nn.Module:
    return layers.GroupNorm(how.groups, where.channels, how.eps, where.affine, bias=where.bias)


def _instance(where: Where, how: How) -> nn.Module:
    return INSTANCE[where.spatial](where.channels, how.eps, affine=where.affine, bias=where.bias)


def _rms(where: Where, how: How) -> nn.Module:
    if where.spatial:
        return ChannelRMSNorm(where.channels, how.eps, where.affine)
    return layers.RMSNorm(where.channels, how.eps, where.affine)


NORMS: dict[str, Callable[[Where, How], nn.Module]] = {
    "none": lambda where, how: NoNorm(),
    "batch": _batch,
    "layer": _layer,
    "group": _group,
    "instance": _instance,
    "rms": _rms,
}


def misfit(kind: str, where: Where, how: How) -> str:
    """Why that norm cannot stand there; empty if it can.

    Example:
        >>> misfit("group", Where(30, 2), How(groups=8))
        '8 groups do not divide 30 channels'
    """
    if kind == "group" and where.channels % how.groups:
        return f"{how.groups} groups do not divide {where.channels} channels"
    if kind in ("batch", "instance") and where.spatial > max(BATCH):
        return f"{kind} norm takes at most {max(BATCH)} dimensions of positions, and here are {where.spatial}"
    if kind == "instance" and not where.spatial:
        return "instance norm takes its moments over positions, and here are none"
    if kind == "instance" and where.positions == 1:
        return "instance norm takes its moments over positions, and here is one: the output would be the bias"
    one_position = where.positions == 1 or not where.spatial
    if kind == "group" and one_position and where.channels == how.groups:
        return f"{how.groups} groups of {where.channels} units leave one unit in each: the output would be the bias"
    if kind in ("layer", "rms") and where.channels == where.positions == 1:
        return f"{kind} norm of a single number leaves at most its sign"
    return ""
