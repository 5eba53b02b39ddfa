"""The weights of a layer that does the work of a norm beside it, in float64."""

from dataclasses import dataclass

import torch
from torch import nn

from normlab.layers.explicit import Explicit
from normlab.tools.norms import ChannelsLast, norm_in

SPATIAL_CONV: dict[type[nn.Module], int] = {
    nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3,
    nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3,
}  # fmt: skip
SPATIAL_INSTANCE: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Affine:
    """What a norm with running statistics does in eval mode: (x − mean) · scale + bias, one of each a channel."""

    mean: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor

    @property
    def shift(self) -> torch.Tensor:
        return self.bias - self.mean * self.scale


@dataclass(frozen=True)
class Weights:
    """Weight and bias of a layer in float64."""

    weight: torch.Tensor
    bias: torch.Tensor


def is_weight_layer(module: nn.Module) -> bool:
    """Whether this is a linear or (transposed) convolution layer, with a forward of its own or not."""
    return isinstance(module, (nn.Linear, *SPATIAL_CONV))


def is_stock(module: nn.Module) -> bool:
    """Whether a weight layer computes what its type says.

    Example:
        >>> is_stock(nn.Linear(2, 2)), is_stock(nn.ReLU())
        (True, False)
    """
    bases: tuple[type[nn.Module], ...] = (nn.Linear, *SPATIAL_CONV)
    base = next((each for each in bases if isinstance(module, each)), None)
    if base is None or "forward" in vars(module):
        return False
    return all(
        getattr(type(module), name, None) is getattr(base, name, None)
        for name in ("forward", "_conv_forward", "_output_padding")
    )


def channel_axis(module: nn.Module, dimensions: int) -> int:
    """The dimension that the channels of a norm, or those that a weight layer puts out, are in.

    Example:
        >>> channel_axis(nn.Linear(4, 8), 3), channel_axis(nn.BatchNorm1d(8), 3), channel_axis(nn.Conv1d(4, 8, 3), 2)
        (2, 1, 0)
    """
    if isinstance(module, nn.Linear | ChannelsLast):
        return dimensions - 1
    for base, spatial in (SPATIAL_CONV | SPATIAL_INSTANCE).items():
        if isinstance(module, base):
            return dimensions - spatial - 1
    return module.axis % dimensions if isinstance(module, Explicit) else 1


def affine_of(norm: nn.Module) -> Affine:
    """Scale and shift of a norm that uses running statistics in eval mode."""
    inner = norm_in(norm)
    mean, var = (_double(inner.get_buffer(name)) for name in ("running_mean", "running_var"))
    weight, bias = inner._parameters.get("weight"), inner._parameters.get("bias")
    eps = float(inner.eps)  # type: ignore[arg-type]
    scale = (var + eps).rsqrt() * (torch.ones_like(var) if weight is None else _double(weight))
    return Affine(mean, scale, torch.zeros_like(mean) if bias is None else _double(bias))


def weights_of(layer: nn.Module) -> Weights:
    """What a weight layer holds; without a bias, zeros."""
    weight, bias = layer.get_parameter("weight"), layer._parameters.get("bias")
    channels = int(getattr(layer, "out_features", 0) or getattr(layer, "out_channels", 0))
    zeros = torch.zeros(channels, dtype=torch.float64)
    return Weights(_double(weight), zeros if bias is None else _double(bias))


def folded_before(layer: nn.Module, weights: Weights, norm: Affine) -> Weights:
    """The weights with which a layer puts out what the norm after it did.

    Source:
        Jacob et al. 2018, section 3.2.
    """
    weight, _, out = _grouped(layer, weights.weight)
    scaled = (weight * _spread(norm.scale, weight, out)).reshape_as(weights.weight)
    return Weights(scaled, (weights.bias - norm.mean) * norm.scale + norm.bias)


def folded_after(layer: nn.Module, weights: Weights, norm: Affine) -> Weights:
    """The weights with which a layer puts out, from what went into the norm before it, what it did from its output.

    Exact as long as the layer adds no zeros around its input.
    """
    weight, into, out = _grouped(layer, weights.weight)
    scaled = (weight * _spread(norm.scale, weight, into)).reshape_as(weights.weight)
    rest = [axis for axis in range(1, weight.ndim) if axis != out]
    added = (weight * _spread(norm.shift, weight, into)).sum(rest).flatten()
    return Weights(scaled, weights.bias + added)


def put(layer: nn.Module, weights: Weights) -> None:
    """Gives a layer new parameters, of the dtype of the old ones; a bias is made if there was none."""
    old = layer.get_parameter("weight")
    had = layer._parameters.get("bias")
    bias = old if had is None else had
    for name, new, like in (("weight", weights.weight, old), ("bias", weights.bias, bias)):
        value = new.to(device=like.device, dtype=like.dtype)
        setattr(layer, name, nn.Parameter(value, requires_grad=like.requires_grad))


def _double(values: torch.Tensor) -> torch.Tensor:
    return values.detach().cpu().double()  # not every device has float64


def _grouped(layer: nn.Module, weight: torch.Tensor) -> tuple[torch.Tensor, int, int]:
    """The weight with its groups in front, and the dimensions in which channels come in and go out."""
    whole = weight.unflatten(0, (int(getattr(layer, "groups", 1)), -1))
    return (whole, 1, 2) if isinstance(layer, TRANSPOSED) else (whole, 2, 1)


def _spread(values: torch.Tensor, weight: torch.Tensor, axis: int) -> torch.Tensor:
    """One value a channel, in the groups and along a dimension of a grouped weight."""
    shape = [1] * weight.ndim
    shape[0], shape[axis] = weight.shape[0], -1
    return values.view(shape)
