"""Channels on another axis: as transposing there and back."""

from typing import Any

import pytest
import torch
from tests.layers.oracle import close, learned, passed, random, statistics
from torch import nn

from normlab import layers, reference
from normlab.errors import InvalidInputError

KINDS: dict[str, Any] = {
    "plain": lambda **how: layers.BatchNorm1d(3, **how),
    "debiased": lambda **how: layers.BatchNorm1d(3, rule="debiased", **how),
    "renorm": lambda **how: layers.BatchRenorm1d(3, schedule=(0, 0, 0), **how),
    "ghost": lambda **how: layers.GhostBatchNorm1d(3, virtual_batch=2, **how),
    "domains": lambda **how: layers.DomainBatchNorm1d(3, ["a"], **how),
}
SHAPES = {-1: (4, 5, 3), 2: (4, 5, 3), 0: (3, 4, 5), -3: (3, 4, 5), -2: (4, 3, 5)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", SHAPES)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_as_transposing(kind: str, axis: int, masked: bool) -> None:
    layer, twin = (learned(KINDS[kind](**how).double()) for how in ({"axis": axis}, {}))
    mask = random(4, 5, seed=9) > 0 if masked else None
    for training in (True, False):
        for each in (layer, twin):
            each.train(training)
        x, dy = random(*SHAPES[axis]), random(*SHAPES[axis], seed=1)
        found = passed(layer, x, dy, mask=mask)
        expected = passed(twin, x.movedim(axis, 1), dy.movedim(axis, 1), mask=mask)
        for mine, theirs in zip(found, expected, strict=True):
            close(mine, theirs.movedim(1, axis) if theirs.ndim == 3 else theirs)
        for name, value in statistics(twin).items():
            close(statistics(layer)[name], value)


@pytest.mark.parametrize("axis", [-1, 0])
def test_against_the_reference(axis: int) -> None:
    layer = learned(layers.BatchNorm2d(3, axis=axis).double())
    shape = (2, 4, 5, 3) if axis else (3, 2, 4, 5)
    x, dy, mask = random(*shape, mean=5.0), random(*shape, seed=1), random(2, 4, 5) > 0
    weights = [each.detach().numpy() for each in layer.parameters()]
    how = {"axis": axis, "mask": mask.numpy()}
    expected = [
        reference.batch_norm(x.numpy(), *weights, **how),
        *reference.batch_norm_vjp(dy.numpy(), x.numpy(), *weights, **how),
    ]
    for mine, theirs in zip(passed(layer, x, dy, mask=mask), expected, strict=True):
        close(mine, theirs)


def test_memory_of_any_layout() -> None:
    for x in (random(4, 3, 5).transpose(1, 2), random(5, 4, 3).transpose(0, 1), random(1, 1, 3).expand(4, 5, 3)):
        layer = layers.BatchNorm1d(3, axis=-1).double()
        close(layer(x), nn.BatchNorm1d(3).double()(x.transpose(1, 2)).transpose(1, 2))


def test_two_dimensions() -> None:
    x = random(4, 3)
    close(layers.BatchNorm1d(3, axis=-1).double()(x), nn.BatchNorm1d(3).double()(x))
    close(layers.BatchNorm1d(3, axis=0).double()(x.T), nn.BatchNorm1d(3).double()(x).T)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_what_is_refused(training: bool) -> None:
    """The size of that dimension is all that can be looked at: where L == C, only `axis` says which is which."""
    for axis, shape, text in (
        (1, (4, 5, 3), "BatchNorm1d: `input` must have 3 channels in dimension 1.\n"
                       "  got: input (4, 5, 3) float32 cpu\n"
                       "  fix: build the layer as BatchNorm1d(5)."),
        (-1, (4, 3, 5), "BatchNorm1d: `input` must have 3 channels in dimension -1.\n"
                        "  got: input (4, 3, 5) float32 cpu\n"
                        "  fix: build the layer as BatchNorm1d(5)."),
        (2, (4, 3), "BatchNorm1d: `axis` must lie in [-2, 1], the dimensions of `input`.\n"
                    "  got: axis = 2; input (4, 3) float32 cpu"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError) as raised:
            layers.BatchNorm1d(3, axis=axis).train(training)(torch.zeros(shape))
        assert str(raised.value) == text
    same = random(4, 3, 3)
    for axis in (1, -1):
        layer = layers.BatchNorm1d(3, axis=axis).double()
        layer(same)
        close(layer.running_mean, 0.1 * same.movedim(axis, 1).mean((0, 2)))
