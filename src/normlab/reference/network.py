"""What all networks have in common: their settings, and what they start from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference.layers import NORMS, Layer, Shapes

# Parameters, gradients and running statistics by name.
Arrays = Mapping[str, Float[np.ndarray, "..."]]

DTYPES = ("float32", "float64")


@dataclass(frozen=True, kw_only=True)
class Network(ABC):
    """An architecture: what it computes, not the numbers that it has learned.

    Parameters have the names and layouts that a twin in torch has whose modules are called as `layers` are, so that
    `twin.load_state_dict` takes them together with the running statistics, as tensors.

    `dtype` is that of parameters, inputs and gradients. Every op works in float64 and returns float64, so that
    activations, statistics (those of a batch and the running ones) and the loss are float64 whatever it is.
    """

    norm: str | None = None  # "batch", "layer", "group", or None for none
    groups: int = 2  # of group norm
    eps: float = 1e-5
    momentum: float = 0.1  # of the running statistics, in PyTorch's meaning
    weight_scale: float = 1e-2  # standard deviation of the first weights
    reg: float = 0.0  # the loss has ½ · reg · Σ weight² over all linear maps
    dtype: str = "float64"

    def __post_init__(self) -> None:
        errors.invalid_input(type(self).__name__, self._problems())

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """From the input to the scores, in order."""

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Its numbers of units, by the name of the setting."""

    @cached_property
    def parameter_shapes(self) -> Shapes:
        """The shape of every parameter, in the order of the layers."""
        return {name: shape for layer in self.layers for name, shape in layer.parameter_shapes.items()}

    @cached_property
    def running_shapes(self) -> Shapes:
        """The shape of every running statistic."""
        return {name: shape for layer in self.layers for name, shape in layer.running_shapes.items()}

    def _problems(self) -> Iterator[Problem]:
        if self.norm is not None and self.norm not in NORMS:
            rule = f"`norm` must be one of {', '.join(NORMS)}, or None."
            yield Problem(rule, got=f"norm = {self.norm!r}", fix=errors.did_you_mean(self.norm, NORMS))
        if self.dtype not in DTYPES:
            rule = f"`dtype` must be one of {', '.join(DTYPES)}."
            yield Problem(rule, got=f"dtype = {self.dtype!r}", fix=errors.did_you_mean(self.dtype, DTYPES))
        for name, number in (("weight_scale", self.weight_scale), ("reg", self.reg)):
            if not (math.isfinite(number) and number >= 0):
                yield Problem(f"`{name}` must be a finite number, not negative.", got=f"{name} = {number}")
        for name, sizes in self.sizes.items():
            if min(sizes, default=1) < 1:
                yield Problem(f"`{name}` must be at least 1.", got=f"{name} = {', '.join(map(str, sizes))}")


def init_parameters(net: Network, seed: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Weights of linear maps from N(0, weight_scale²), those of norms 1, all biases 0.

    Norms draw nothing, so that networks which differ in their norm alone start from the same weights.

    Args:
        net: The architecture.
        seed: The same seed draws the same weights; in float32 they are those of float64, rounded.

    Returns:
        The parameters by name, in the order of the layers.

    Example:
        >>> from normlab.reference import FullyConnected
        >>> start = init_parameters(FullyConnected(4, (3,), 2, norm="layer"), seed=0)
        >>> {name: values.shape for name, values in start.items() if name.endswith("weight")}
        {'layer1.weights.weight': (3, 4), 'layer1.norm.weight': (3,), 'output.weight': (2, 3)}
    """
    rng = np.random.default_rng(seed)
    parameters = {}
    for layer in net.layers:
        for name, shape in layer.parameter_shapes.items():
            if name.endswith(".bias"):
                start = np.zeros(shape)
            else:
                start = rng.normal(0.0, net.weight_scale, shape) if layer.is_linear else np.ones(shape)
            parameters[name] = start.astype(net.dtype)
    return parameters


def init_running(net: Network) -> dict[str, Float64[np.ndarray, " c"]]:
    """Running means 0 and running variances 1, as in torch; empty without batch norm.

    Args:
        net: The architecture.

    Example:
        >>> from normlab.reference import FullyConnected
        >>> init_running(FullyConnected(4, (2,), 2, norm="batch"))
        {'layer1.norm.running_mean': array([0., 0.]), 'layer1.norm.running_var': array([1., 1.])}
    """
    return {
        name: np.ones(shape) if name.endswith("running_var") else np.zeros(shape)
        for name, shape in net.running_shapes.items()
    }
