"""A fully connected network of any depth."""

from collections import OrderedDict

from torch import nn

from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.models.block import Block
from normlab.lab.norms import norm_layer


def mlp(config: RunConfig, data: Dataset) -> nn.Module:
    """`depth` hidden layers of `width` units, each weights → norm → activation, and a linear output.

    Shape:
        (N, *) → (N, outputs).
    """
    inputs = data.x_train[0].size
    width = config.model.width
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if config.model.input_norm:
        layers["input"] = Block(None, norm_layer(config, inputs), None)
    for number in range(1, config.model.depth + 1):
        weights = nn.Linear(inputs if number == 1 else width, width)
        layers[f"layer{number}"] = Block(
            weights, norm_layer(config, width), config.model.activation, config.model.dropout
        )
    layers["output"] = nn.Linear(width, data.outputs)
    return nn.Sequential(layers)
