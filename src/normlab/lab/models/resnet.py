"""The residual network of small images."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from normlab.lab.config import Model
from normlab.lab.models.block import Block
from normlab.lab.norms import NormOf


class Unit(nn.Module):
    """Two convolutions and a shortcut around them; `sum` holds the activation that follows their sum.

    Shape:
        (N, inputs, H, W) → (N, channels, H, W), or (N, channels, ⌈H/2⌉, ⌈W/2⌉) if the channels change.
    """

    def __init__(self, inputs: int, channels: int, norm: NormOf, settings: Model) -> None:
        super().__init__()
        self.channels = channels
        self.stride = 1 if inputs == channels else 2
        self.first = Block(_conv(inputs, channels, self.stride), norm(channels), settings.activation, settings.dropout)
        self.second = Block(_conv(channels, channels), norm(channels), None)
        self.sum = Block(None, None, settings.activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.sum(self._shortcut(x) + self.second(self.first(x)))
        return total

    def _shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """Option A of the paper: every `stride`-th position, and zeros for the new channels; no parameters."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


def resnet(sample: tuple[int, ...], outputs: int, norm: NormOf, settings: Model) -> nn.Module:
    """A convolution 3 × 3, three stages of n units with `width`, 2 · `width` and 4 · `width` channels, the mean over
    positions and a linear output; `depth` = 6n + 2 counts the layers with weights.

    Convolutions have no bias whatever `bias` says. Dropout, which the paper does not have, stands between the two
    convolutions of a unit, as in Zagoruyko & Komodakis 2016.

    Shape:
        (N, C, H, W) → (N, outputs).

    Source:
        He et al. 2015, section 4.2.
    """
    channels = settings.width
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=Block(_conv(sample[0], channels), norm(channels), settings.activation)
    )
    for stage in range(3):
        units: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, (settings.depth - 2) // 6 + 1):
            units[f"unit{number}"] = Unit(channels, settings.width << stage, norm, settings)
            channels = settings.width << stage
        layers[f"stage{stage + 1}"] = nn.Sequential(units)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, outputs)
    return nn.Sequential(layers)


def _conv(inputs: int, channels: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, channels, kernel_size=3, stride=stride, padding=1, bias=False)
