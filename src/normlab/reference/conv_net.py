"""A small convolutional network."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from normlab.reference.built_network import BuiltNetwork
from normlab.reference.layer import Layer
from normlab.reference.layers import activation_layer, conv_layer, flatten_layer, linear_layer, max_pool_layer


@dataclass(frozen=True)
class ConvNet(BuiltNetwork):
    """conv – norm – ReLU – max pool – linear; the norm may be absent.

    Layers are called `layer1.weights`, `layer1.norm`, …, `output`, as those of `FullyConnected`. The convolution is
    padded by half its kernel, and rows that fill no window of the pool are left out.

    Shape:
        (N, C, H, W) → (N, classes).

    Source:
        CS231n, assignment 2 (`ThreeLayerConvNet`, with its hidden layer left out and a norm put in).

    Example:
        >>> ConvNet((1, 8, 8), 4, 10, norm="batch").parameter_shapes["output.weight"]
        (10, 64)
    """

    image: tuple[int, int, int]  # C, H, W
    filters: int
    classes: int
    kernel: int = 3
    pool: int = 2

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """From the input to the scores, in order."""
        channels, *sides = self.image
        height, width = ((side + 2 * (self.kernel // 2) - self.kernel + 1) // self.pool for side in sides)
        return (
            conv_layer("layer1.weights", channels, self.filters, self.kernel),
            *self.norm_of("layer1.norm", self.filters),
            activation_layer("layer1.activation", "relu"),
            max_pool_layer("layer1.pool", self.pool),
            flatten_layer("flatten"),
            linear_layer("output", self.filters * height * width, self.classes),
        )

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Its numbers of units, by the name of the setting."""
        once = {name: (getattr(self, name),) for name in ("filters", "classes", "kernel", "pool")}
        return {"image": self.image} | once
