"""Layers of PyTorch that become ours where they stand, by their class alone."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from normlab.layers.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
from normlab.layers.combined import combined
from normlab.layers.explicit import Explicit, explicit_layers
from normlab.layers.group_norm import GroupNorm
from normlab.layers.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from normlab.layers.layer_norm import LayerNorm
from normlab.layers.rms_norm import RMSNorm

OURS: dict[type[nn.Module], type[Explicit]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
    nn.SyncBatchNorm: SyncBatchNorm,
    nn.InstanceNorm1d: InstanceNorm1d,
    nn.InstanceNorm2d: InstanceNorm2d,
    nn.InstanceNorm3d: InstanceNorm3d,
}
WITHOUT_STATISTICS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: LayerNorm,
    nn.GroupNorm: GroupNorm,
    nn.RMSNorm: RMSNorm,
}


def adopted_class(layer: nn.Module) -> type[nn.Module] | str:
    """The class that makes a layer explicit, or the reason why there is none.

    A subclass keeps its own forward: the one it inherits, which it calls, becomes ours.

    Example:
        >>> adopted_class(nn.BatchNorm2d(3)).__module__
        'normlab.layers.batch_norm'
        >>> adopted_class(nn.GroupNorm(1, 3))
        'GroupNorm keeps no running statistics'
    """
    if isinstance(layer, Explicit):
        return type(layer)
    stock = next((each for each in OURS if isinstance(layer, each)), None)
    if stock is None:
        return f"{type(layer).__name__} keeps no running statistics" if _has_none(layer) else _unknown(layer)
    return _in_place_of(stock, OURS[stock], layer)


def our_class(layer: nn.Module) -> type[nn.Module] | str:
    """As `adopted_class`, for the norms without running statistics too.

    Example:
        >>> our_class(nn.GroupNorm(1, 3)).__module__
        'normlab.layers.group_norm'
    """
    if isinstance(layer, (Explicit, *WITHOUT_STATISTICS.values())):
        return type(layer)
    table = OURS | WITHOUT_STATISTICS
    stock = next((each for each in table if isinstance(layer, each)), None)
    if stock is None:
        return f"{type(layer).__name__} is none of the norms that have a counterpart in `normlab.layers`"
    return _in_place_of(stock, table[stock], layer)


def adopt(layer: nn.Module) -> None:
    """Makes a layer explicit where it stands; `adopted_class` must have a class for it."""
    its_class = adopted_class(layer)
    if isinstance(its_class, type) and not isinstance(layer, Explicit):
        layer.__class__ = its_class
        layer.count_skipped()  # type: ignore[operator]


@contextmanager
def adopted(model: nn.Module) -> Iterator[list[Explicit]]:
    """The layers of a model with running statistics, those of PyTorch among them being ours for a while."""
    before: list[tuple[nn.Module, type]] = []
    try:
        for layer in model.modules():
            if not isinstance(layer, Explicit) and isinstance(adopted_class(layer), type):
                before.append((layer, type(layer)))
                adopt(layer)
                vars(layer)["for_a_while"] = True
        yield explicit_layers(model)
    finally:
        for layer, its_class in before:
            disown(layer, its_class)


def disown(layer: nn.Module, its_class: type[nn.Module]) -> None:
    """Gives a layer that was made explicit the class that it had, or another one, and takes away what was ours."""
    layer.__class__ = its_class
    layer._buffers.pop("skipped_non_finite", None)
    layer._non_persistent_buffers_set.discard("skipped_non_finite")
    for name in ("skipped_recomputed", "taker", "held", "for_a_while"):
        layer.__dict__.pop(name, None)


def _in_place_of(stock: type[nn.Module], ours: type[nn.Module], layer: nn.Module) -> type[nn.Module] | str:
    """Ours for a layer of PyTorch, or for a subclass whose forward calls the one of PyTorch."""
    if "forward" in vars(layer) or not all(map(_calls_super, _forwards_above(type(layer), stock))):
        return _unknown(layer)
    return ours if type(layer) is stock else combined(type(layer).__name__, type(layer), ours)


def _forwards_above(its_class: type[nn.Module], stock: type[nn.Module]) -> Iterator[Any]:
    """Those that come before the one of PyTorch."""
    for each in its_class.__mro__[: its_class.__mro__.index(stock)]:
        if "forward" in vars(each):
            yield vars(each)["forward"]


def _calls_super(forward: Any) -> bool:
    """Whether there is a `super()` in it, which Python compiles to a variable of that name."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return code is not None and "__class__" in code.co_freevars


def _has_none(layer: nn.Module) -> bool:
    return getattr(layer, "running_mean", None) is None


def _unknown(layer: nn.Module) -> str:
    return f"{type(layer).__name__} has a forward of its own that does not call the one it inherits"
