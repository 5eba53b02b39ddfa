"""What all networks have in common: layers, a loss and a dtype."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.layer import Layer, Shapes
from normlab.reference.losses import LOSSES

# Parameters, gradients and running statistics by name.
Arrays = Mapping[str, Float[np.ndarray, "..."]]

DTYPES = ("float32", "float64")


@dataclass(frozen=True, kw_only=True)
class Network(ABC):
    """An architecture and what it is trained on: not the numbers that it has learned.

    Parameters have the names and layouts that a twin in torch has whose modules are called as `layers` are, so that
    `twin.load_state_dict` takes them together with the running statistics, as tensors.

    `dtype` is that of parameters, inputs, real targets and gradients. Every op works in float64 and returns float64,
    so that activations, statistics (those of a batch and the running ones) and the loss are float64 whatever it is.
    """

    loss: str = "cross_entropy"  # "cross_entropy" of classes, or "mean_squared_error" of values
    reg: float = 0.0  # the loss has ½ · reg · Σ weight² over all linear maps
    dtype: str = "float64"

    def __post_init__(self) -> None:
        errors.invalid_input(type(self).__name__, self._problems())

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """From the input to the scores, in order."""

    @cached_property
    def parameter_shapes(self) -> Shapes:
        """The shape of every parameter, in the order of the layers."""
        return {name: shape for layer in self.layers for name, shape in layer.parameter_shapes.items()}

    @cached_property
    def running_shapes(self) -> Shapes:
        """The shape of every running statistic."""
        return {name: shape for layer in self.layers for name, shape in layer.running_shapes.items()}

    def _problems(self) -> Iterator[Problem]:
        for name, value, known in (("loss", self.loss, LOSSES), ("dtype", self.dtype, DTYPES)):
            if value not in known:
                rule = f"`{name}` must be one of {', '.join(known)}."
                yield Problem(rule, got=f"{name} = {value!r}", fix=errors.did_you_mean(value, known))
        yield from checks.not_negative(reg=self.reg)
