"""The convolutional network of the handwritten digits."""

import math
from collections import OrderedDict

from torch import nn

from normlab import errors
from normlab.lab.config import Model
from normlab.lab.models.block import Block
from normlab.lab.norms import NormOf


def lenet(sample: tuple[int, ...], outputs: int, norm: NormOf, settings: Model) -> nn.Module:
    """Two convolutions 5 × 5 of `width` and 2 · `width` kernels, each weights → norm → activation → 2 × 2 max pool,
    then a hidden layer of 32 · `width` units with dropout, and a linear output.

    The hidden layer has no norm, so that every norm of the network has positions (instance norm has no meaning
    without), and it keeps its bias. With `width` 32 it has the 1,024 units of the common network for MNIST.

    Shape:
        (N, C, H, W) → (N, outputs).

    Raises:
        UsageError: an image is smaller than 4 × 4.

    Source:
        LeCun et al. 1998, with the sizes of S1.
    """
    channels, *sides = sample
    if min(sides) < 4:
        rule = "images must be at least 4 × 4, since they are pooled twice."
        problem = errors.Problem(rule, got=f"samples of shape {sample}", fix="use model.kind=conv.")
        raise errors.UsageError(errors.message("model.kind=lenet", problem))
    width, hidden, bias = settings.width, 32 * settings.width, settings.bias
    positions = math.prod(side // 4 for side in sides)
    first = nn.Conv2d(channels, width, kernel_size=5, padding=2, bias=bias)
    second = nn.Conv2d(width, 2 * width, kernel_size=5, padding=2, bias=bias)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        layer1=Block(first, norm(width), settings.activation),
        pool1=nn.MaxPool2d(2),
        layer2=Block(second, norm(2 * width), settings.activation),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        layer3=Block(nn.Linear(2 * width * positions, hidden), None, settings.activation, settings.dropout),
        output=nn.Linear(hidden, outputs),
    )
    return nn.Sequential(layers)
