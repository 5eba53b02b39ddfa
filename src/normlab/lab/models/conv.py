"""A small convolutional network for images."""

from collections import OrderedDict

from torch import nn

from normlab.lab.config import Model
from normlab.lab.models.block import Block
from normlab.lab.norms import NormOf


def conv(sample: tuple[int, ...], outputs: int, norm: NormOf, settings: Model) -> nn.Module:
    """`depth` convolutions 3 × 3 of `width` channels, each weights → norm → activation, then the mean over
    positions and a linear output.

    Shape:
        (N, C, H, W) → (N, outputs).
    """
    channels, width = sample[0], settings.width
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if settings.input_norm:
        layers["input"] = Block(None, norm(channels), None)
    for number in range(1, settings.depth + 1):
        inputs = channels if number == 1 else width
        weights = nn.Conv2d(inputs, width, kernel_size=3, padding=1, bias=settings.bias)
        layers[f"layer{number}"] = Block(weights, norm(width), settings.activation, settings.dropout)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(width, outputs)
    return nn.Sequential(layers)
