"""A convolutional network for volumes."""

from collections import OrderedDict

from torch import nn

from normlab.lab.config import Model
from normlab.lab.models.block import Block
from normlab.lab.norms import NormOf


def volumes(sample: tuple[int, ...], outputs: int, norm: NormOf, settings: Model) -> nn.Module:
    """`depth` convolutions 3 × 3 × 3, each weights → norm → activation, then the mean over positions and a linear
    output.

    The first has `width` channels and keeps the sides; each further one doubles the channels and halves the sides,
    rounded up.

    Shape:
        (N, C, D, H, W) → (N, outputs).

    Source:
        The layer of S1, stacked.
    """
    inputs = sample[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in range(settings.depth):
        channels = settings.width << layer
        stride = 2 if layer else 1
        weights = nn.Conv3d(inputs, channels, kernel_size=3, stride=stride, padding=1, bias=settings.bias)
        layers[f"layer{layer + 1}"] = Block(weights, norm(channels), settings.activation, settings.dropout)
        inputs = channels
    layers["pool"] = nn.AdaptiveAvgPool3d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(inputs, outputs)
    return nn.Sequential(layers)
