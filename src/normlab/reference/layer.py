"""A layer of a network: an op of the reference, with the parameters that it learns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from normlab.reference.conv import conv
from normlab.reference.linear import linear

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layer:
    """One op of a network.

    The output is `op(x, **parameters, **settings)`; `vjp(dy, x, **parameters, **settings)` returns dx and then one
    gradient per parameter, in the order of `shapes`, with None for those that it could have and has not.
    """

    name: str
    op: Callable[..., Any]
    vjp: Callable[..., Any]
    shapes: Shapes = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    momentum: float | None = None  # of its running statistics, in PyTorch's meaning; None if it keeps none

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
        if self.momentum is None:
            return {}
        return {f"{self.name}.{which}": self.shapes["weight"] for which in ("running_mean", "running_var")}
