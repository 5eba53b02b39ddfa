"""The densely connected network of small images."""

from collections import OrderedDict

import torch
from torch import nn

from normlab import errors
from normlab.lab.config import Model
from normlab.lab.models.block import Block
from normlab.lab.norms import NormOf


class DenseLayer(nn.Module):
    """`growth` new channels, computed from all earlier ones through a bottleneck of four times as many.

    Shape:
        (N, C, H, W) → (N, C + growth, H, W).
    """

    def __init__(self, channels: int, norm: NormOf, settings: Model) -> None:
        super().__init__()
        between, growth = 4 * settings.growth, settings.growth
        self.bottleneck = _block(nn.Conv2d(channels, between, kernel_size=1, bias=False), norm(channels), settings)
        self.growth = _block(nn.Conv2d(between, growth, kernel_size=3, padding=1, bias=False), norm(between), settings)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.growth(self.bottleneck(x))], dim=1)


def densenet(sample: tuple[int, ...], outputs: int, norm: NormOf, settings: Model) -> nn.Module:
    """DenseNet-BC: a convolution 3 × 3 of 2 · `growth` channels, three blocks of n dense layers with a transition after
    the first two, a norm, the mean over positions and a linear output; `depth` = 6n + 4 counts the layers with weights.

    Everywhere norm → activation → weights. A transition halves the channels (1 × 1 convolution) and the sides (mean).
    Convolutions have no bias whatever `bias` says; dropout follows each but the first; `width` is not used.

    Shape:
        (N, C, H, W) → (N, outputs).

    Raises:
        UsageError: an image is smaller than 4 × 4.

    Source:
        Huang et al. 2017, sections 3 and 4.2.
    """
    if min(sample[1:]) < 4:
        rule = "images must be at least 4 × 4, since their sides are halved twice."
        problem = errors.Problem(rule, got=f"samples of shape {sample}", fix="use model.kind=resnet.")
        raise errors.UsageError(errors.message("model.kind=densenet", problem))
    channels = 2 * settings.growth
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        stem=nn.Conv2d(sample[0], channels, kernel_size=3, padding=1, bias=False)
    )
    for block in (1, 2, 3):
        dense: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, (settings.depth - 4) // 6 + 1):
            dense[f"layer{number}"] = DenseLayer(channels, norm, settings)
            channels += settings.growth
        layers[f"block{block}"] = nn.Sequential(dense)
        if block < 3:
            weights = nn.Conv2d(channels, channels // 2, kernel_size=1, bias=False)
            layers[f"transition{block}"] = _block(weights, norm(channels), settings)
            layers[f"pool{block}"] = nn.AvgPool2d(2)
            channels //= 2
    layers["last"] = Block(None, norm(channels), settings.activation)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, outputs)
    return nn.Sequential(layers)


def _block(weights: nn.Module, norm: nn.Module | None, settings: Model) -> Block:
    return Block(weights, norm, settings.activation, settings.dropout, weights_last=True)
