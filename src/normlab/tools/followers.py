"""What follows a norm in the graph of a forward, and the graph in which the norm does that itself."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from normlab.kernels.activation import Activation
from normlab.tools.forwards import forward_of
from normlab.tools.in_place import origins, writes
from normlab.tools.plain import has_any_hooks, is_identity

# of each activation: how it is called, and its arguments in order
ACTIVATIONS: dict[Any, tuple[Activation, tuple[str, ...]]] = {
    **dict.fromkeys((functional.relu, functional.relu_, torch.relu, torch.relu_), ("relu", ("input", "inplace"))),
    **dict.fromkeys(("relu", "relu_"), ("relu", ("input",))),
    functional.leaky_relu: ("leaky_relu", ("input", "negative_slope", "inplace")),
    functional.leaky_relu_: ("leaky_relu", ("input", "negative_slope")),
    functional.silu: ("silu", ("input", "inplace")),
    functional.gelu: ("gelu", ("input", "approximate")),
}
ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
WRITES_LEFT = (operator.iadd, "add_")


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


@dataclass(frozen=True)
class Chain:
    """A norm in a graph, and the operations after it that are to be its own."""

    follows: Follows
    norm: fx.Node
    nodes: tuple[fx.Node, ...] = field(default=())
    residual: fx.Node | None = None

    @property
    def place(self) -> fx.Node:
        """Where its arguments are all there, and have the values that they had."""
        return next(each for each in self.nodes if self.residual is None or _is_add(each))

    def is_right(self) -> bool:
        """Whether the norm stands at the right of the sum, which is not what `+=` writes into."""
        return self.residual is not None and self.place.args[0] is self.residual


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
    return _activation_at(nodes[0], {})


def chain_of(norm: fx.Node, layers: Mapping[str, nn.Module]) -> Chain | str:
    """What follows a norm in a graph, or why a norm that something follows cannot do it; empty if nothing does.

    Args:
        norm: where the norm is called.
        layers: of the module, by name.
    """
    if len(norm.args) + len(norm.kwargs) != 1 or not norm.args:
        return "it is called with more than its input, or by a keyword"
    nodes: list[fx.Node] = []
    residual: fx.Node | None = None
    value = norm
    while (reader := _reader(value)) is not None:
        follows = _activation_at(reader, layers)
        if follows is not None:
            nodes.append(reader)
            found = Follows(residual is not None, follows.activation, follows.slope)
            return _sound(Chain(found, norm, tuple(nodes), residual), layers)
        if residual is None and _is_add(reader):
            residual = _other(reader, value)
            if residual is None:
                break
        elif not _is_identity(reader, layers):
            break
        nodes.append(reader)
        value = reader
    if residual is not None:
        while not _is_add(nodes[-1]):
            nodes.pop()
        return _sound(Chain(Follows(residual=True), norm, tuple(nodes), residual), layers)
    return _why_not(value, layers)


def fuse(graph: fx.Graph, chain: Chain) -> None:
    """Puts one call of the norm in the place of the whole chain.

    The residual goes by its name, also where there is none: a norm of another kind, put in later, refuses it.
    """
    with graph.inserting_before(chain.place):
        named = {"residual": chain.residual}
        call = graph.call_module(str(chain.norm.target), chain.norm.args, named)  # type: ignore[arg-type]
    chain.nodes[-1].replace_all_uses_with(call)
    for node in reversed((chain.norm, *chain.nodes)):
        graph.erase_node(node)


def _reader(value: fx.Node) -> fx.Node | None:
    """The one that reads a value, once; None if there are others."""
    if len(value.users) != 1:
        return None
    (reader,) = value.users
    found = [each for each in (*reader.args, *reader.kwargs.values()) if each is value]
    return reader if len(found) == 1 else None


def _why_not(value: fx.Node, layers: Mapping[str, nn.Module]) -> str:
    for reader in value.users:
        module = layers[str(reader.target)] if reader.op == "call_module" else None
        if module is not None and has_any_hooks(module) and activation_of(module):
            return f"{type(module).__name__} after it has hooks"
    if len(value.users) > 1 and any(_activation_at(each, layers) or _is_add(each) for each in value.users):
        return "its output is read by more than what follows it"
    return ""


def _activation_at(node: fx.Node, layers: Mapping[str, nn.Module]) -> Follows | None:
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


def _is_identity(node: fx.Node, layers: Mapping[str, nn.Module]) -> bool:
    return node.op == "call_module" and is_identity(layers[str(node.target)])


def _is_add(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and node.target in ADDS


def _other(add: fx.Node, value: fx.Node) -> fx.Node | None:
    """What is added to a value; None if that is a constant, or more than that is done."""
    if add.kwargs or len(add.args) != 2:
        return None
    other = add.args[1] if add.args[0] is value else add.args[0]
    if not isinstance(other, fx.Node) or other.op == "get_attr":
        return None
    return other


def _sound(chain: Chain, layers: Mapping[str, nn.Module]) -> Chain | str:
    """The chain, if everything keeps its values when the norm is called later."""
    start, place = chain.norm, chain.place
    source = origins(start.args[0], layers)
    node = start.next
    while node is not place:
        if node not in chain.nodes and writes(node, layers) and source & origins((node.args, node.kwargs), layers):
            return "its input may be changed in place before what follows it"
        node = node.next
    if place.target in WRITES_LEFT and chain.is_right():
        changed = origins(chain.residual, layers)
        if any(each.op in ("placeholder", "get_attr") or len(each.users) > 1 for each in changed):
            return "its output is added in place to a value that others may read"
    if any(str(each.target).startswith(f"{start.target}.") for each in start.graph.nodes if each.op == "get_attr"):
        return "the forward reads its tensors"
    if sum(each.op == "call_module" and each.target == start.target for each in start.graph.nodes) > 1:
        return "the forward calls it several times"
    return chain
