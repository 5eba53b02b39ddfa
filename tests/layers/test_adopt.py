"""A layer of PyTorch that is ours for a while."""

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.layers.layers_of_others import CallsOwn, CallsSuper, Own, patched
from tests.layers.oracle import random, same, statistics
from torch import nn

from normlab import layers
from normlab.layers.adopt import adopt, adopted, adopted_class, disown
from normlab.layers.explicit import Explicit


class Further(CallsSuper):
    """A subclass of a subclass, that keeps its forward."""

    def extra_repr(self) -> str:
        return "further"


def through(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def wrapper(self: nn.Module, x: torch.Tensor) -> Any:
        return forward(self, x)

    return wrapper


class Decorated(nn.BatchNorm1d):
    @through
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


STOCK: dict[str, Any] = {
    "1d": lambda: nn.BatchNorm1d(3),
    "2d": lambda: nn.BatchNorm2d(3),
    "3d": lambda: nn.BatchNorm3d(3),
    "average": lambda: nn.BatchNorm1d(3, momentum=None),
    "without statistics": lambda: nn.BatchNorm1d(3, track_running_stats=False),
    "instance": lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    "instance without statistics": lambda: nn.InstanceNorm2d(3),
    "calls super": lambda: CallsSuper(3),
    "further": lambda: Further(3),
    "decorated": lambda: Decorated(3),
}
every = pytest.mark.parametrize("name", STOCK)


def input_of(layer: nn.Module) -> torch.Tensor:
    dimensions = {nn.BatchNorm2d: 2, nn.BatchNorm3d: 3, nn.InstanceNorm2d: 2}.get(type(layer), 1)
    return random(4, 3, *(5,) * dimensions, dtype=torch.float32)


@every
def test_there_and_back(name: str) -> None:
    """Ours computes the same; afterwards nothing tells that it ever was."""
    layer = STOCK[name]()
    its_class, held, twin = type(layer), dict(layer.named_buffers()), copy.deepcopy(layer)
    names, x = set(vars(layer)), input_of(layer)
    adopt(layer)
    assert isinstance(layer, Explicit)
    assert isinstance(layer, its_class)
    adopt(layer)  # once more is no more
    torch.testing.assert_close(layer(x), twin(x))
    disown(layer, its_class)
    assert type(layer) is its_class
    assert set(vars(layer)) == names
    assert list(layer.named_buffers()) == list(held.items())
    assert layer._non_persistent_buffers_set == set()
    for buffer, value in held.items():
        torch.testing.assert_close(twin.get_buffer(buffer), value)


@every
def test_copies_and_pickles(name: str) -> None:
    layer = STOCK[name]()
    adopt(layer)
    layer(input_of(STOCK[name]()))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  # our own bytes
        assert type(other) is type(layer)
        assert repr(other) == repr(layer)
        assert same(statistics(layer), statistics(other))
        other(input_of(STOCK[name]()))


def test_a_model_for_a_while() -> None:
    model = nn.ModuleDict(
        {name: make() for name, make in STOCK.items()} | {"own": Own(3), "ours": layers.BatchNorm1d(3)}
    )
    classes = [type(each) for each in model.modules()]
    names = [name for name, _ in model.named_buffers()]

    def fail() -> None:
        with adopted(model) as found:
            assert len(found) == len(STOCK) + 1
            with adopted(model) as again:
                assert again == found
            assert all(isinstance(each, Explicit) for each in found)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [type(each) for each in model.modules()] == classes
    assert [name for name, _ in model.named_buffers() if "ours" not in name] == [
        name for name in names if "ours" not in name
    ]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.GroupNorm(1, 3), "GroupNorm keeps no running statistics"),
        (nn.Linear(3, 3), "Linear keeps no running statistics"),
        (Own(3), "Own has a forward of its own that does not call the one it inherits"),
        (CallsOwn(3), "CallsOwn has a forward of its own that does not call the one it inherits"),
        (patched(), "BatchNorm1d has a forward of its own that does not call the one it inherits"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_cannot_be(layer: nn.Module, reason: str) -> None:
    its_class = type(layer)
    assert adopted_class(layer) == reason
    adopt(layer)
    assert type(layer) is its_class
