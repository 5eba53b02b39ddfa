"""The layers of a network: ops of the reference, with the parameters that they learn."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from normlab.reference.activations import relu, relu_vjp
from normlab.reference.batch_norm import batch_norm, batch_norm_vjp
from normlab.reference.conv import conv, conv_vjp
from normlab.reference.dropout import dropout, dropout_vjp
from normlab.reference.group_norm import group_norm, group_norm_vjp
from normlab.reference.linear import linear, linear_vjp
from normlab.reference.pool import max_pool, max_pool_vjp

Array = Float64[np.ndarray, "..."]
Shapes = Mapping[str, tuple[int, ...]]

NORMS = ("batch", "layer", "group")


@dataclass(frozen=True)
class Layer:
    """One op of a network.

    The output is `op(x, **parameters, **settings)`; `vjp(dy, x, **parameters, **settings)` returns dx and then one
    gradient per parameter, in the order of `shapes`.
    """

    name: str
    op: Callable[..., Any]
    vjp: Callable[..., Any]
    shapes: Shapes = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_linear(self) -> bool:
        """Whether its weight is one of a linear map: drawn at the start, and held small by L2."""
        return self.op in (linear, conv)

    @property
    def parameter_shapes(self) -> Shapes:
        """The shapes under the names that the parameters have in the network."""
        return {f"{self.name}.{parameter}": shape for parameter, shape in self.shapes.items()}

    @property
    def running_shapes(self) -> Shapes:
        """The same for running statistics, which only batch norm has."""
        if self.op is not batch_norm:
            return {}
        return {f"{self.name}.{which}": self.shapes["weight"] for which in ("running_mean", "running_var")}


def linear_layer(name: str, inputs: int, outputs: int) -> Layer:
    """y = x · weightᵀ + bias; the weight is (outputs, inputs), as in torch."""
    return Layer(name, linear, linear_vjp, {"weight": (outputs, inputs), "bias": (outputs,)})


def conv_layer(name: str, channels: int, filters: int, size: int) -> Layer:
    """A convolution over two dimensions whose output has the size of its input, if the kernel's size is odd."""
    shapes = {"weight": (filters, channels, size, size), "bias": (filters,)}
    return Layer(name, conv, conv_vjp, shapes, {"padding": size // 2})


def norm_layers(name: str, norm: str | None, channels: int, *, groups: int, eps: float) -> tuple[Layer, ...]:
    """The norm of that name with one weight and bias per channel, or no layer for None.

    Layer norm is group norm of one group: over all of a sample.

    Example:
        >>> [layer.settings["num_groups"] for layer in norm_layers("norm", "layer", 6, groups=3, eps=1e-5)]
        [1]
    """
    shapes = {"weight": (channels,), "bias": (channels,)}
    match norm:
        case None:
            return ()
        case "batch":
            return (Layer(name, batch_norm, batch_norm_vjp, shapes, {"eps": eps}),)
        case _:
            settings = {"num_groups": 1 if norm == "layer" else groups, "eps": eps}
            return (Layer(name, group_norm, group_norm_vjp, shapes, settings),)


def relu_layer(name: str) -> Layer:
    """y = max(x, 0)."""
    return Layer(name, relu, relu_vjp)


def dropout_layers(name: str, p: float) -> tuple[Layer, ...]:
    """Dropout, or no layer when nothing is dropped."""
    return (Layer(name, dropout, dropout_vjp, settings={"p": p}),) if p else ()


def max_pool_layer(name: str, size: int) -> Layer:
    """The largest value in each window; windows do not overlap."""
    return Layer(name, max_pool, max_pool_vjp, settings={"size": size})


def flatten_layer(name: str) -> Layer:
    """(N, *) becomes (N, D)."""
    return Layer(name, _flatten, _flatten_vjp)


def _flatten(x: Array) -> Array:
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _flatten_vjp(dy: Array, x: Array) -> tuple[Array]:
    return (dy.reshape(x.shape),)
