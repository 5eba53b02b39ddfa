"""A fully connected network of any depth."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from normlab.reference.built_network import BuiltNetwork
from normlab.reference.layer import Layer
from normlab.reference.layers import NORMS, activation_layer, dropout_layers, flatten_layer, linear_layer


@dataclass(frozen=True)
class FullyConnected(BuiltNetwork):
    """{linear – norm – ReLU – dropout} for each hidden layer, then linear; norm and dropout may be absent.

    Layers are called `layer1.weights`, `layer1.norm`, …, `output`, so that a twin in torch is a `Sequential` of
    `Sequential`s with these names. The bias before a norm stays, though batch norm makes it redundant.

    Shape:
        (N, *), with `inputs` values per sample, → (N, classes).

    Source:
        CS231n, assignment 2 (`FullyConnectedNet`).

    Example:
        >>> [layer.name for layer in FullyConnected(64, (32,), 10, norm="batch", dropout=0.5).layers]
        ['flatten', 'layer1.weights', 'layer1.norm', 'layer1.activation', 'layer1.dropout', 'output']
    """

    norms: ClassVar[tuple[str, ...]] = tuple(norm for norm in NORMS if norm != "instance")  # which needs positions

    inputs: int
    hidden: tuple[int, ...]  # units of each hidden layer
    classes: int
    dropout: float = 0.0  # probability of dropping a value

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """From the input to the scores, in order."""
        layers = [flatten_layer("flatten")]
        for number, (inputs, outputs) in enumerate(zip((self.inputs, *self.hidden), self.hidden, strict=False), 1):
            name = f"layer{number}"
            layers += [
                linear_layer(f"{name}.weights", inputs, outputs),
                *self.norm_of(f"{name}.norm", outputs),
                activation_layer(f"{name}.activation", "relu"),
                *dropout_layers(f"{name}.dropout", self.dropout),
            ]
        return (*layers, linear_layer("output", (self.inputs, *self.hidden)[-1], self.classes))

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Its numbers of units, by the name of the setting."""
        return {"inputs": (self.inputs,), "hidden": self.hidden, "classes": (self.classes,)}
