"""A network made of the layers that it is given."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from normlab.errors import Problem
from normlab.reference.layer import Layer
from normlab.reference.network import Network


@dataclass(frozen=True)
class Sequential(Network):
    """Any layers, one after the other; their settings are their own.

    A layer called `layer1.norm` has the parameters `layer1.norm.weight` and `layer1.norm.bias`, as in torch a module
    `norm` inside a module `layer1` has.

    Shape:
        What the first layer takes → what the last one gives: (N, classes) with the loss `cross_entropy`.

    Example:
        >>> from normlab.reference import activation_layer, linear_layer, norm_layers
        >>> hidden = linear_layer("hidden", 4, 3, bias=False), *norm_layers("norm", "batch", 3)
        >>> net = Sequential((*hidden, activation_layer("activation", "tanh"), linear_layer("output", 3, 1)))
        >>> list(net.parameter_shapes)
        ['hidden.weight', 'norm.weight', 'norm.bias', 'output.weight', 'output.bias']
    """

    given: tuple[Layer, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """From the input to the scores, in order."""
        return self.given

    def _problems(self) -> Iterator[Problem]:
        yield from super()._problems()
        twice = [name for name, times in Counter(layer.name for layer in self.given).items() if times > 1]
        if twice:
            rule = "every layer must have a name of its own."
            yield Problem(rule, got=f"more than once: {', '.join(twice)}", fix="name them layer1.norm, layer2.norm, ….")
