"""Whether a module calls a chain of layers as a whole, or layer by layer."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import nn

# what is asked of a chain without calling the layers in it
HARMLESS = {
    "apply",
    "eval",
    "modules",
    "named_modules",
    "named_parameters",
    "parameters",
    "requires_grad_",
    "to",
    "train",
}


def why_apart(word: str, its_class: type[nn.Module], name: str) -> str:
    """Why what is between the layers of a chain may be read, if the methods of the module that holds it say so.

    Args:
        word: for that module.
        its_class: of that module.
        name: of the chain in it.

    Example:
        >>> why_apart("Sequential", nn.Sequential, "0")
        ''
    """
    methods = {key: value for each in _before_module(its_class) for key, value in vars(each).items()}
    for key, method in methods.items():
        if key != "__init__" and inspect.isfunction(method) and name in _apart(method):
            return f"{word} takes `{name}` apart; pass `example`, to see who reads its output"
    return ""


def _before_module(its_class: type[nn.Module]) -> list[type[Any]]:
    """The classes of a module, those of PyTorch left out, the first in line last."""
    return [each for each in reversed(its_class.__mro__) if not each.__module__.startswith("torch.")]


@cache
def _apart(method: Any) -> frozenset[str]:
    """The attributes of `self` that a method does more with than to call them."""
    try:
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(method))).body
    except (OSError, SyntaxError, TypeError, ValueError):
        return frozenset()
    if not isinstance(function, ast.FunctionDef) or not function.args.args:
        return frozenset()
    return frozenset(_used(function, function.args.args[0].arg))


def _used(function: ast.FunctionDef, own: str) -> Iterator[str]:
    called = {id(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    asked = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Attribute) and node.attr in HARMLESS}
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == own
            and isinstance(node.ctx, ast.Load) and id(node) not in called | asked
        ):  # fmt: skip
            yield node.attr
