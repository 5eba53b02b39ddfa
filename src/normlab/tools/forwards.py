"""The graph of a forward that does the same at every call."""

import operator
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import fx, nn

from normlab.tools.fold_verify import in_short
from normlab.tools.straight import why_not_straight
from normlab.tools.watched import Watch, in_mode, watched

IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "imatmul")
TORCH = Path(torch.__file__).parent
# of PyTorch, what may stand between a forward and an operation; not checkpointing, autocast or `no_grad`
BETWEEN = ("fx", "nn", "overrides.py", "functional.py", "_jit_internal.py", "_tensor.py")
METHOD = "normlab_method"  # in `meta` of a node: the method, other than forward, that computes it
VARIABLE = 0x04 | 0x08  # `inspect.CO_VARARGS`, `CO_VARKEYWORDS`


@dataclass(frozen=True)
class Read:
    """A constant that a forward read, of the layer at that path, and what it was."""

    path: str
    name: str
    value: Any


@dataclass(frozen=True)
class Forward:
    """What a forward does, and what it read to do so."""

    graph: fx.Graph = field(repr=False)
    reads: tuple[Read, ...]


def forward_of(module: nn.Module, inside: Collection[nn.Module] = ()) -> Forward | str:
    """The graph of a forward whose layers are taken as a whole, but those of `inside`; or what speaks against it.

    It has to be the same in train mode and in eval mode, without control flow that depends on anything but constants
    of the module, and without contexts, which no graph has. The module is afterwards as before.

    Example:
        >>> class Block(nn.Module):
        ...     def forward(self, x):
        ...         return torch.relu(x) if self.training else x
        >>> forward_of(Block())
        'does something else in train mode than in eval mode'
    """
    if "forward" in vars(module):
        return "has a forward that was replaced by another function"
    code = getattr(type(module).forward, "__code__", None)
    if code is None or code.co_flags & VARIABLE:
        return "takes any number of arguments"
    graphs: list[fx.Graph] = []
    reads: dict[tuple[str, str], Any] = {}
    for training in (True, False):
        watch = Watch()
        tracer = _Tracer(inside)
        try:
            with watched(module, watch), in_mode(module, training):
                graphs.append(tracer.trace(module))
        except Exception as error:
            return watch.why_not or f"cannot be followed: {in_short(error)}"
        if reason := watch.why_not or next(filter(None, map(_why_not, tracer.codes)), ""):
            return reason
        reads |= watch.reads
    sources = [graph.python_code("self").src for graph in graphs]
    if sources[0] != sources[1]:
        return "does something else in train mode than in eval mode"
    return Forward(graphs[0], tuple(Read(path, name, value) for (path, name), value in reads.items()))


class _Tracer(fx.Tracer):
    """Takes every layer as a whole, but some; sees `+=` for what it is; remembers who computes."""

    def __init__(self, inside: Collection[nn.Module]) -> None:
        super().__init__()
        self.inside = set(inside)
        self.codes: dict[CodeType, None] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self.inside

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        frame = sys._getframe(1) if kind.startswith("call") else None
        while frame is not None and frame.f_code is not fx.Tracer.trace.__code__:
            code = frame.f_code
            self.codes.setdefault(code)
            whose = frame.f_locals.get(next(iter(code.co_varnames), ""))
            ours = isinstance(whose, nn.Module) and (whose is self.root or whose in self.inside)
            if ours and code.co_name != "forward" and not code.co_filename.startswith(str(TORCH)):
                node.meta[METHOD] = code.co_name
            frame = frame.f_back
        return node


class _Proxy(fx.Proxy):
    """With the operators that change a tensor in its place: without them Python takes `x += y` for `x = x + y`."""


def _in_place(name: str) -> Any:
    def change(self: _Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", getattr(operator, name), (self, other), {})

    return change


for each in IN_PLACE:
    setattr(_Proxy, f"__{each}__", _in_place(each))


def _why_not(code: CodeType) -> str:
    """Why what one function does cannot be kept in a graph."""
    path = Path(code.co_filename)
    if code is _Tracer.create_node.__code__ or code.co_name.startswith("<") or path == Path(__file__):
        return ""
    if TORCH in path.parents:
        inner = path.relative_to(TORCH).parts[0]
        return "" if inner in BETWEEN else f"computes inside of `torch.{path.stem}`"
    return why_not_straight(code)
