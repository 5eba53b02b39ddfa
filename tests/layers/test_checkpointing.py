"""Activation checkpointing repeats a forward inside of backward: that is no second batch."""

import copy
from typing import Any

import pytest
import torch
from tests.layers.oracle import random, same, statistics
from torch import nn
from torch.utils.checkpoint import checkpoint

from normlab import layers
from normlab.layers import accumulate

both = pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
KINDS: dict[str, Any] = {
    "plain": layers.BatchNorm1d,
    "debiased": lambda channels: layers.BatchNorm1d(channels, rule="debiased"),
    "renorm": lambda channels: layers.BatchRenorm1d(channels, schedule=(0, 0, 0)),
    "ghost": lambda channels: layers.GhostBatchNorm1d(channels, virtual_batch=2),
}


def build(kind: str) -> nn.Sequential:
    """With a layer behind each norm, so that its forward is repeated to the end."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), KINDS[kind](4), nn.Tanh(), nn.Linear(4, 4), KINDS[kind](4), nn.Linear(4, 2))


@both
@pytest.mark.parametrize("kind", KINDS)
def test_one_commit_a_step(kind: str, reentrant: bool) -> None:
    model = build(kind)
    twin = copy.deepcopy(model)
    for seed in range(3):
        x = random(6, 3, seed=seed, dtype=torch.float32)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        ys = checkpoint(model, inputs[0], use_reentrant=reentrant), twin(inputs[1])
        for y in ys:
            y.square().sum().backward()
        assert same(statistics(twin), statistics(model))
        if kind != "renorm":  # whose r and d have moved on by then
            assert torch.equal(inputs[0].grad, inputs[1].grad)
        assert [model[at].skipped_recomputed for at in (1, 4)] == [seed + 1] * 2
    assert [twin[at].skipped_recomputed for at in (1, 4)] == [0, 0]
    model[1].reset_running_stats()
    assert model[1].skipped_recomputed == 0


@both
def test_with_pooled_micro_batches(reentrant: bool) -> None:
    model = build("plain")
    twin = copy.deepcopy(model)
    for each, remade in ((model, True), (twin, False)):
        with accumulate(each, micro_batches=2):
            for seed in range(4):
                x = random(6, 3, seed=seed, dtype=torch.float32).requires_grad_()
                y = checkpoint(each, x, use_reentrant=reentrant) if remade else each(x)
                y.sum().backward()
    assert same(statistics(twin), statistics(model))
    assert int(model[1].num_batches_tracked) == 2


def test_the_layer_of_torch_commits_twice() -> None:
    layer = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    checkpoint(layer, random(6, 3, dtype=torch.float32), use_reentrant=False).sum().backward()
    assert int(layer[0].num_batches_tracked) == 2
