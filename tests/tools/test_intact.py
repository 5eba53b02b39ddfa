"""A model is as it was when a tool raises."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from normlab.tools.intact import intact


class BrokenError(Exception):
    """What the block raises."""


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU())


def spoil(made: nn.Sequential) -> None:
    with intact(made):
        made[1].running_mean.add_(3)
        made[1].running_var = torch.zeros(3)
        made[1].momentum = None
        made[1].register_forward_hook(print)
        made[1].__class__ = nn.BatchNorm2d
        made[0].weight.requires_grad_(False)
        made[0].weight = nn.Parameter(torch.zeros(3, 2))
        made[2] = nn.Identity()
        made.eval()
        made.added = 1
        raise BrokenError


def test_everything_is_put_back() -> None:
    made = model()
    layers, twin = list(made), copy.deepcopy(made)
    buffer, weight = made[1].running_mean, made[0].weight
    with pytest.raises(BrokenError):
        spoil(made)
    assert list(made) == layers
    assert made[1].running_mean is buffer
    assert made[0].weight is weight
    assert made[0].weight.requires_grad
    assert made.training
    assert made[1].training
    assert type(made[1]) is nn.BatchNorm1d
    assert made[1].momentum == 0.1
    assert not made[1]._forward_hooks
    assert not hasattr(made, "added")
    for name, value in twin.state_dict().items():
        assert torch.equal(made.state_dict()[name], value)


def unhook(made: nn.Module, handle: RemovableHandle) -> None:
    with intact(made):
        handle.remove()
        raise BrokenError


def test_a_hook_can_still_be_removed_by_its_handle() -> None:
    made = model()
    seen: list[int] = []
    handle = made[1].register_forward_hook(lambda *_: seen.append(1))
    with pytest.raises(BrokenError):
        unhook(made, handle)
    made(torch.randn(4, 2))
    assert seen == [1]
    handle.remove()
    made(torch.randn(4, 2))
    assert seen == [1]


def test_what_was_done_stays_if_nothing_is_raised() -> None:
    made = model()
    with intact(made):
        made[1].running_mean.add_(3)
    assert torch.equal(made[1].running_mean, torch.full((3,), 3.0))
