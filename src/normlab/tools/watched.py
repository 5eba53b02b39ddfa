"""What a forward reads of its module and the layers in it, while it is followed in a graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn

INTERNAL = {*vars(nn.Module()), "T_destination", "call_super_init", "dump_patches"}
CONSTANTS = (bool, int, float, str, type(None), FunctionType, BuiltinFunctionType, torch.dtype)


class Watch:
    """What is read of modules, and why what is done with them cannot be kept in a graph."""

    def __init__(self) -> None:
        self.reads: dict[tuple[str, str], Any] = {}
        self.why_not = ""

    def read(self, module: nn.Module, path: str, name: str, value: Any) -> None:
        if name not in vars(module):  # methods and properties of the class, which read what they need
            of_class = next((vars(each)[name] for each in type(module).__mro__ if name in vars(each)), None)
            if of_class is None or hasattr(of_class, "__get__"):
                return
        if _is_constant(value):
            self.reads[path, name] = value
        else:
            self.why_not = self.why_not or f"reads `{name}`, which may change ({type(value).__name__})"

    def refuse_to_write(self, name: str) -> None:
        self.why_not = self.why_not or f"writes into `{name}`"
        raise AttributeError(self.why_not)


@contextmanager
def watched(module: nn.Module, watch: Watch) -> Iterator[None]:
    """Who reads an attribute is seen, who writes one is stopped, of the module and of every layer in it."""
    before = [(name, each, type(each)) for name, each in module.named_modules()]
    try:
        for name, each, its_class in before:
            each.__class__ = _watching(its_class, name, watch)
        yield
    finally:
        for _, each, its_class in before:
            each.__class__ = its_class


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Whatever `train()` of somebody's module does."""
    before = [(each, vars(each).get("training")) for each in module.modules()]
    try:
        for each, _ in before:
            vars(each)["training"] = training
        yield
    finally:
        for each, mode in before:
            vars(each)["training"] = mode


def _watching(its_class: Any, path: str, watch: Watch) -> Any:
    class Watching(its_class):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name[:2] != "__" and name not in INTERNAL:
                watch.read(self, path, name, value)
            return value

        def __getattr__(self, name: str) -> Any:
            value = super().__getattr__(name)
            if value is None:  # a layer that is not there
                watch.reads[path, name] = None
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            if name != "__class__":
                watch.refuse_to_write(name)
            super().__setattr__(name, value)

    Watching.__module__ = its_class.__module__
    return Watching


def _is_constant(value: Any) -> bool:
    return isinstance(value, CONSTANTS) or (isinstance(value, tuple) and all(map(_is_constant, value)))
