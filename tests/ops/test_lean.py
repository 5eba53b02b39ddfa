"""Outputs that are made again in backward."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from tests.layers.oracle import learned, random
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from normlab.kernels import pick
from normlab.layers import BatchNorm2d, BatchNormAct2d
from normlab.ops.lean import is_lean, lean, stay_lean

SHAPE = (4, 8, 6, 7)


@pytest.fixture(autouse=True)
def by_kernel() -> Iterator[None]:
    with pick.backend("fused"):
        yield


class Dense(nn.Module):
    """As in DenseNet: all that follows a norm is a convolution."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.norm1, self.conv1 = BatchNormAct2d(channels), nn.Conv2d(channels, 16, 1)
        self.norm2, self.conv2 = BatchNormAct2d(16, activation="silu"), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv2(self.norm2(self.conv1(self.norm1(x))))], 1)


def a_model() -> nn.Module:
    torch.manual_seed(0)
    return learned(nn.Sequential(Dense(8), Dense(12)))


def step(model: nn.Module, scope: AbstractContextManager[None]) -> list[torch.Tensor]:
    """y, and all gradients."""
    x = random(*SHAPE, dtype=torch.float32).requires_grad_()
    with scope:
        y = model(x)
    found = torch.autograd.grad(y, [x, *model.parameters()], random(*y.shape, seed=1, dtype=torch.float32))
    return [y.detach(), *found]


def test_gradients_are_the_same_to_the_bit() -> None:
    model = a_model()
    for one, other in zip(step(copy.deepcopy(model), nullcontext()), step(model, lean()), strict=True):
        assert torch.equal(one, other)


def test_outputs_of_norms_are_not_kept() -> None:
    """Weak references die with the forward, as nothing but the recipe is left."""
    model = a_model()
    memory = []
    for scope in (nullcontext(), lean()):
        watched = []
        for layer in model.modules():
            layer._forward_hooks.clear()
            if isinstance(layer, BatchNormAct2d):
                layer.register_forward_hook(
                    lambda module, given, y, watched=watched: watched.append(StorageWeakRef(y.untyped_storage()))
                )
        with scope:
            y = model(random(*SHAPE, dtype=torch.float32))
        memory.append([each.expired() for each in watched])
        del y
    assert memory == [[False] * 4, [True] * 4]


def test_backward_within_the_scope_and_several_steps() -> None:
    model = a_model()
    expected = step(copy.deepcopy(model), nullcontext())
    with lean():
        for _ in range(2):
            found = step(copy.deepcopy(model), nullcontext())
            assert all(map(torch.equal, found, expected))


def test_scopes_can_be_nested_and_end_with_an_error() -> None:
    model = a_model()
    expected = step(copy.deepcopy(model), nullcontext())

    def fail() -> None:
        with lean():
            raise KeyError

    with lean():
        with pytest.raises(KeyError):
            fail()
        assert all(map(torch.equal, step(copy.deepcopy(model), lean()), expected))
    assert all(map(torch.equal, step(model, nullcontext()), expected))


def test_an_output_that_two_layers_keep_is_made_once_and_right() -> None:
    norm, left, right = learned(BatchNormAct2d(8)), nn.Conv2d(8, 3, 1), nn.Conv2d(8, 3, 3, padding=1)

    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([norm, left, right])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = norm(x)
            return left(y) * right(y)

    fork = Fork()
    assert all(map(torch.equal, step(fork, nullcontext()), step(fork, lean())))


def test_what_is_changed_in_place_is_kept() -> None:
    """The recipe would give the values from before."""

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = learned(BatchNorm2d(8)), nn.Conv2d(8, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norm(x).mul_(2.0))

    model = Doubled()
    assert all(map(torch.equal, step(model, nullcontext()), step(model, lean())))


def test_an_input_changed_before_backward_is_an_error() -> None:
    norm, conv = learned(BatchNormAct2d(8)), nn.Conv2d(8, 3, 1)
    x = random(*SHAPE, dtype=torch.float32)
    with lean():
        y = conv(norm(x))
    x.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(torch.ones_like(y))


def test_memory_given_to_another_tensor_is_no_longer_known() -> None:
    """Outputs that nobody keeps, and then tensors of that size at, most likely, the same address."""
    norm, conv = learned(BatchNormAct2d(8)), nn.Conv2d(8, 3, 1)
    x = random(*SHAPE, dtype=torch.float32)
    with lean():
        for seed in range(20):
            norm(x)
            other = random(*SHAPE, seed=seed, dtype=torch.float32).requires_grad_()
            y = conv(other)
            dy = random(*y.shape, seed=1, dtype=torch.float32)
            (found,) = torch.autograd.grad(y, [conv.weight], dy)
            plain = nn.functional.conv2d(other.detach(), conv.weight, conv.bias)
            (expected,) = torch.autograd.grad(plain, [conv.weight], dy)
            assert torch.equal(found, expected)


def test_within_autocast_and_checkpoint() -> None:
    model = a_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = step(model, nullcontext())
        assert all(map(torch.equal, step(model, lean()), expected))

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.model, x, use_reentrant=False)

    assert all(map(torch.equal, step(Again(), lean()), step(model, nullcontext())))


class Residual(nn.Module):
    """Blocks in a row, the first with a norm beside it, as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = BatchNormAct2d(8, activation="none")
        self.convs = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(5)])
        self.norms = nn.ModuleList([BatchNormAct2d(8) for _ in range(5)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = self.beside(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = added = norm(conv(x), added)
        return x * 1.0


def test_of_residual_blocks_every_other_sum_is_kept() -> None:
    torch.manual_seed(0)
    model = learned(Residual())
    assert all(map(torch.equal, step(copy.deepcopy(model), nullcontext()), step(copy.deepcopy(model), lean())))
    watched: list[StorageWeakRef] = []
    for layer in (model.beside, *model.norms):
        layer.register_forward_hook(lambda module, given, y: watched.append(StorageWeakRef(y.untyped_storage())))
    with lean():
        y = model(random(*SHAPE, dtype=torch.float32))
    assert [each.expired() for each in watched] == [True, True, False, True, False, True]
    del y


def test_a_residual_changed_before_backward_is_an_error() -> None:
    norm, conv = learned(BatchNormAct2d(8)), nn.Conv2d(8, 3, 1)
    residual = random(*SHAPE, seed=5, dtype=torch.float32)
    with lean():
        y = conv(norm(random(*SHAPE, dtype=torch.float32), residual))
    residual.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(torch.ones_like(y))


def test_a_module_that_stays_lean() -> None:
    """Also after a forward that raised, twice told, copied, and one within another."""
    model = a_model()
    expected = step(copy.deepcopy(model), nullcontext())
    kept: list[bool] = []
    for part in (model, model, model[0]):
        stay_lean(part)
    with pytest.raises(ValueError, match="neither second nor last"):
        model(torch.ones(2))
    model[0].norm1.register_forward_hook(lambda module, given, y: kept.append(is_lean()))
    for each in (model, copy.deepcopy(model)):
        assert all(map(torch.equal, step(each, nullcontext()), expected))
    assert kept == [True, True]
    assert not is_lean()
    assert len(model._forward_hooks) == 1
