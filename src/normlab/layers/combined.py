"""A module that is given another class in place: what refers to it, its tensors, hooks and optimizer, still holds."""

from functools import cache
from typing import Any

from torch import nn


def combined(name: str, *bases: type[nn.Module]) -> type[nn.Module]:
    """One class out of several, first in line the first.

    `super().forward()` of the first reaches the next. Layers of such a class can be pickled and copied.

    Example:
        >>> class Quiet(nn.Module):
        ...     def extra_repr(self):
        ...         return "quiet"
        >>> layer = nn.ReLU()
        >>> layer.__class__ = combined("QuietReLU", Quiet, nn.ReLU)
        >>> layer, isinstance(layer, nn.ReLU)
        (QuietReLU(quiet), True)
    """
    made: type[nn.Module] = _made(name, bases)
    return made


@cache
def _made(name: str, bases: Any) -> Any:
    # torch.fx knows a layer of PyTorch by its module, and does not look inside
    inside = {"__reduce_ex__": _reduce, "__module__": bases[-1].__module__, "combined_of": (name, *bases)}
    return type(name, bases, inside)


def _reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
    return _new, type(self).combined_of, self.__getstate__()


def _new(*made_of: Any) -> nn.Module:
    made = combined(*made_of)
    return made.__new__(made)
