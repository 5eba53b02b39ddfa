"""Activation checkpointing repeats a forward inside of backward: that is no second batch."""

import copy
from typing import Any

import pytest
import torch
from tests.layers.oracle import random, same, statistics
from torch import nn
from torch.utils.checkpoint import checkpoint

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.layers import accumulate, stats_frozen

both = pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
KINDS: dict[str, Any] = {
    "plain": layers.BatchNorm1d,
    "debiased": lambda channels: layers.BatchNorm1d(channels, rule="debiased"),
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
        assert torch.equal(inputs[0].grad, inputs[1].grad)
        assert [model[at].skipped_recomputed for at in (1, 4)] == [seed + 1] * 2
    assert [twin[at].skipped_recomputed for at in (1, 4)] == [0, 0]
    model[1].reset_running_stats()
    assert model[1].skipped_recomputed == 0


LEANING: dict[str, Any] = {
    "BatchRenorm1d": lambda: layers.BatchRenorm1d(3, schedule=(0, 0, 0)),
    "BatchNorm1d": lambda: layers.BatchNorm1d(3, normalize_with="running", commit_when="always"),
}


@both
@pytest.mark.parametrize("name", LEANING)
def test_what_leans_on_statistics_that_move_is_refused(name: str, reentrant: bool) -> None:
    """The repeated forward would find others, and the gradient would be wrong without a word."""
    layer = LEANING[name]()
    y = checkpoint(layer, random(6, 3, dtype=torch.float32).requires_grad_(), use_reentrant=reentrant)
    with pytest.raises(InvalidInputError) as raised:
        y.backward(random(6, 3, seed=1, dtype=torch.float32))
    assert str(raised.value) == (
        f"{name}: it cannot be under activation checkpointing: the repeated forward finds other running statistics.\n"
        "  got: a forward inside of backward, normalized by running statistics that forwards move\n"
        "  fix: take the layer out of the checkpoint, or go through both in `normlab.stats_frozen`."
    )


@both
@pytest.mark.parametrize("name", LEANING)
def test_where_they_do_not_move_it_is_right(name: str, reentrant: bool) -> None:
    layer = LEANING[name]()
    x = random(6, 3, dtype=torch.float32)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    with stats_frozen(layer):
        for y in (checkpoint(layer, inputs[0], use_reentrant=reentrant), layer(inputs[1])):
            y.backward(random(6, 3, seed=1, dtype=torch.float32))
    assert torch.equal(inputs[0].grad, inputs[1].grad)


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
