"""A fully connected network of any depth."""

import math
from collections import OrderedDict

from torch import nn

from normlab.lab.config import Model
from normlab.lab.models.block import Block
from normlab.lab.norms import NormOf


def mlp(sample: tuple[int, ...], outputs: int, norm: NormOf, settings: Model) -> nn.Module:
    """`depth` hidden layers of `width` units, each weights → norm → activation, and a linear output.

    Shape:
        (N, *) → (N, outputs).
    """
    inputs, width = math.prod(sample), settings.width
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if settings.input_norm:
        layers["input"] = Block(None, norm(inputs), None)
    for number in range(1, settings.depth + 1):
        weights = nn.Linear(inputs if number == 1 else width, width, bias=settings.bias)
        layers[f"layer{number}"] = Block(weights, norm(width), settings.activation, settings.dropout)
    layers["output"] = nn.Linear(width, outputs)
    return nn.Sequential(layers)
