"""A small convolutional network for images."""

from collections import OrderedDict

from torch import nn

from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.models.block import Block
from normlab.lab.norms import norm_layer


def conv_net(config: RunConfig, data: Dataset) -> nn.Module:
    """`depth` convolutions 3 × 3 of `width` channels, each weights → norm → activation, then the mean over
    positions and a linear output.

    Shape:
        (N, C, H, W) → (N, outputs).
    """
    channels = data.x_train.shape[1]
    width = config.model.width
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if config.model.input_norm:
        layers["input"] = Block(None, norm_layer(config, channels, spatial=2), None)
    for number in range(1, config.model.depth + 1):
        weights = nn.Conv2d(channels if number == 1 else width, width, kernel_size=3, padding=1)
        layers[f"layer{number}"] = Block(
            weights, norm_layer(config, width, spatial=2), config.model.activation, config.model.dropout
        )
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(width, data.outputs)
    return nn.Sequential(layers)
