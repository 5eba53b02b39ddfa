"""Which activation a layer or an operation in a graph is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from normlab.kernels.activation import Activation
from normlab.tools.forwards import forward_of
from normlab.tools.plain import has_any_hooks

# of each activation: how it is called, and its arguments in order
ACTIVATIONS: dict[Any, tuple[Activation, tuple[str, ...]]] = {
    **dict.fromkeys((functional.relu, functional.relu_, torch.relu, torch.relu_), ("relu", ("input", "inplace"))),
    **dict.fromkeys(("relu", "relu_"), ("relu", ("input",))),
    functional.leaky_relu: ("leaky_relu", ("input", "negative_slope", "inplace")),
    functional.leaky_relu_: ("leaky_relu", ("input", "negative_slope")),
    functional.silu: ("silu", ("input", "inplace")),
    functional.gelu: ("gelu", ("input", "approximate")),
}


@dataclass(frozen=True)
class Follows:
    """What a norm is to do after it has normalized."""

    residual: bool = False
    activation: Activation = "none"
    slope: float = 0.01

    def words(self) -> str:
        """As a report says it.

        Example:
            >>> Follows(residual=True, activation="relu").words()
            'with add and relu'
        """
        return "with " + " and ".join(["add"] * self.residual + [self.activation] * (self.activation != "none"))


def activation_of(module: nn.Module) -> Follows | None:
    """The activation that a layer computes, whoever wrote it; None if it is none, or one that norms cannot do.

    Example:
        >>> activation_of(nn.LeakyReLU(0.2)), activation_of(nn.Tanh())
        (Follows(residual=False, activation='leaky_relu', slope=0.2), None)
    """
    if any(True for _ in (*module.children(), *module.parameters(), *module.buffers())):
        return None
    found = forward_of(module)
    if isinstance(found, str):
        return None
    taken, *nodes, put_out = found.graph.nodes
    if len(nodes) != 1 or put_out.args != (nodes[0],) or nodes[0].all_input_nodes != [taken]:
        return None
    return activation_at(nodes[0], {})


def activation_at(node: fx.Node, layers: Mapping[str, nn.Module]) -> Follows | None:
    """The activation that is called there, by a layer that nobody looks at, a function or a method."""
    if node.op == "call_module":
        module = layers[str(node.target)]
        return None if has_any_hooks(module) or len(node.args) != 1 or node.kwargs else activation_of(module)
    if node.op not in ("call_function", "call_method") or node.target not in ACTIVATIONS:
        return None
    name, names = ACTIVATIONS[node.target]
    if len(node.args) > len(names):
        return None
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    slope = given.get("negative_slope", 0.01)
    if not isinstance(given.get("input"), fx.Node) or not isinstance(slope, int | float):
        return None
    if given.get("approximate", "none") != "none" or set(given) - set(names):
        return None
    return Follows(activation=name, slope=float(slope) if name == "leaky_relu" else 0.01)
