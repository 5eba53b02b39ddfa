"""What a commit makes of the running statistics, against the reference."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.layers.oracle import close, random, same, statistics
from torch import nn

from normlab import layers, reference
from normlab.layers.adopt import adopted
from normlab.layers.explicit import Explicit

RULES = [("ema", 0.1), ("ema", 0.0), ("ema", 1.0), ("ema", None), ("debiased", 0.1), ("debiased", 1e-9),
         ("debiased", 0.0), ("debiased", 1.0), ("cumulative", 0.3)]  # fmt: skip
rules = pytest.mark.parametrize(("rule", "momentum"), RULES)


def expected(batches: list[Any], rule: str, momentum: float | None, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """By the reference, from (mean, biased variance, count) of each batch."""
    running: tuple[np.ndarray, np.ndarray] = np.zeros(channels), np.ones(channels)
    rule = "cumulative" if momentum is None else rule
    for steps, batch in enumerate(batches, start=1):
        running = reference.update_running(*running, *batch, momentum=momentum or 0.0, rule=rule, steps=steps)
    return running


@rules
def test_rules_over_several_batches(rule: str, momentum: float | None) -> None:
    """Of different sizes, with a large mean among them; one that leaves one real value, and one that leaves none."""
    layer = layers.BatchNorm1d(3, momentum=momentum, rule=rule).double()
    xs = [random(size, 3, 4, seed=size, mean=mean) for size, mean in ((5, 0.0), (2, 1e3), (7, -3.0), (1, 5.0))]
    masks = [torch.rand(len(x), 4, generator=torch.Generator().manual_seed(7)) < 0.7 for x in xs]
    masks[3] = torch.tensor([[False, True, False, False]])
    batches = []
    for x, mask in zip(xs, masks, strict=True):
        layer(x, mask)
        layer(x, torch.zeros(len(x), 4, dtype=torch.bool))
        batches.append(reference.batch_norm_statistics(x.numpy(), mask=mask.numpy()))
        mean, var = expected(batches, rule, momentum, 3)
        close(layer.running_mean, mean)
        close(layer.running_var, var)
    assert batches[3][2] == 1
    assert int(layer.num_batches_tracked) == 4
    assert int(layer.skipped_non_finite) == 0


@rules
def test_rules_of_instance_norm(rule: str, momentum: float | None) -> None:
    """The average over the samples; momentum None never moves it, as in PyTorch."""
    layer = layers.InstanceNorm1d(3, momentum=momentum, track_running_stats=True, rule=rule).double()
    stock = nn.InstanceNorm1d(3, momentum=momentum, track_running_stats=True).double()
    batches = []
    for size in (2, 5, 1):
        x = random(size, 3, 4, seed=size, mean=2.0)
        layer(x)
        stock(x)
        batches.append((x.mean(2).mean(0).numpy(), x.var(2, correction=0).mean(0).numpy(), 4))
    if rule == "ema":
        mean, var = stock.running_mean, stock.running_var
    else:
        mean, var = expected(batches, rule, momentum, 3)
    close(layer.running_mean, mean)
    close(layer.running_var, var)
    assert int(layer.num_batches_tracked) == (0 if rule == "ema" else 3)


def test_a_debiased_average_forgets_its_start() -> None:
    layer = layers.BatchNorm1d(2, momentum=0.001, rule="debiased").double()
    x = random(6, 2, mean=50.0)
    layer(x)
    close(layer.running_mean, x.mean(0))
    close(layer.running_var, x.var(0))


@pytest.mark.parametrize("kind", ["plain", "cumulative", "instance", "running normalizes", "masked"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e200, -1e308], ids=str)
def test_what_is_not_finite_is_not_committed(kind: str, bad: float) -> None:
    """The square of 1e200 is not finite, nor is a sum of some 1e308."""
    made: dict[str, Any] = {
        "plain": lambda: layers.BatchNorm1d(3),
        "cumulative": lambda: layers.BatchNorm1d(3, rule="cumulative"),
        "masked": lambda: layers.BatchNorm1d(3, rule="cumulative"),
        "instance": lambda: layers.InstanceNorm1d(3, track_running_stats=True, rule="cumulative"),
        "running normalizes": lambda: layers.BatchNorm1d(3, rule="cumulative", normalize_with="running"),
    }
    layer, twin = made[kind]().double(), made[kind]().double()
    how = {"mask": torch.ones(4, 5, dtype=torch.bool)} if kind == "masked" else {}
    layer(random(4, 3, 5), **how)
    before = statistics(layer)
    spoilt = random(4, 3, 5, seed=1)
    spoilt[:, 1, :3] = bad
    layer(spoilt, **how)
    assert int(layer.skipped_non_finite) == 1
    assert same(before | {"skipped_non_finite": torch.tensor(1)}, statistics(layer))
    layer(random(4, 3, 5, seed=2), **how)
    for seed in (0, 2):
        twin(random(4, 3, 5, seed=seed), **how)
    assert same(statistics(twin) | {"skipped_non_finite": torch.tensor(1)}, statistics(layer))
    layer.reset_running_stats()
    assert same(statistics(layer), statistics(made[kind]().double()))


def test_statistics_that_the_buffers_cannot_hold_are_not_committed() -> None:
    """A layer of PyTorch that was made `half()`: a variance of 90,000 is finite, and is infinite in its buffers."""
    layer = nn.BatchNorm1d(2).half()
    with adopted(layer) as (ours,):
        ours.commit(torch.zeros(2), torch.tensor([1.0, 9e4]), 8)
        ours.commit(torch.tensor([7e4, 0.0]), torch.ones(2), 8)
        assert int(ours.skipped_non_finite) == 2
        ours.commit(torch.zeros(2), torch.full((2,), 11.0), 8)
    assert torch.equal(layer.running_var, torch.full((2,), 2.0).half())
    assert int(layer.num_batches_tracked) == 1


def test_single_positions_have_no_spread() -> None:
    layer = layers.InstanceNorm1d(2, track_running_stats=True, normalize_with="running", momentum=1.0).double()
    layer(random(4, 2, 1))
    close(layer.running_mean, random(4, 2, 1).mean((0, 2)))
    assert layer.running_var.tolist() == [1.0, 1.0]


def test_a_commit_by_hand() -> None:
    """With a count as a number or as a tensor."""
    layer = layers.BatchNorm1d(1, momentum=0.5)
    layer.commit(torch.tensor([4.0]), torch.tensor([3.0]), 10)
    assert (float(layer.running_mean), float(layer.running_var)) == (2.0, 2.0)
    layer.commit(torch.tensor([4.0]), torch.tensor([9.0]), 1)
    assert (float(layer.running_mean), float(layer.running_var)) == (3.0, 2.0)
    layer.commit(torch.tensor([9.0]), torch.tensor([9.0]), torch.tensor(0.0))
    assert (float(layer.running_mean), float(layer.running_var)) == (3.0, 2.0)
    assert int(layer.num_batches_tracked) == 2


def test_new_statistics_without_a_change_in_place() -> None:
    layer = layers.BatchNorm1d(2)
    before, versions = statistics(layer), [each._version for each in layer.buffers()]
    new = layer.updated(layers.explicit.Moments(torch.ones(2), torch.ones(2), 4))
    assert isinstance(layer, Explicit)
    assert list(new) == list(before)
    assert same(before, statistics(layer))
    assert versions == [each._version for each in layer.buffers()]
