"""What follows a norm in the graph of a forward, and the graph in which the norm does that itself."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from normlab.tools.in_place import origins, writes
from normlab.tools.plain import has_any_hooks, is_identity
from normlab.tools.recognized import Follows, activation_at, activation_of

ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
WRITES_LEFT = (operator.iadd, "add_")


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
        follows = activation_at(reader, layers)
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

    The residual goes by its name, also where there is none: a norm of another kind, put in later, refuses it. A sum
    that was put into one of its terms has the dtype of that one, as under autocast.
    """
    place = chain.place
    with graph.inserting_before(place):
        named = {"residual": chain.residual}
        call = graph.call_module(str(chain.norm.target), chain.norm.args, named)  # type: ignore[arg-type]
        if place.target in WRITES_LEFT:
            call = graph.call_method("type_as", (call, chain.residual if chain.is_right() else chain.norm.args[0]))
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
    if len(value.users) > 1 and any(activation_at(each, layers) or _is_add(each) for each in value.users):
        return "its output is read by more than what follows it"
    return ""


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
