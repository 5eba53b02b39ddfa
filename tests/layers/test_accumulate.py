"""Several micro-batches pooled into one commit, as the large batch would have made it."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.layers.layers_of_others import CallsSuper
from tests.layers.oracle import close, random, same, statistics
from tests.tolerances import ROUNDINGS, pooled_bound
from torch import nn

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.layers import accumulate, stats_frozen

KINDS: dict[str, tuple[Any, Any]] = {  # and the layer of PyTorch that is given the large batch
    "ours": (lambda: layers.BatchNorm1d(3), nn.BatchNorm1d),
    "cumulative": (lambda: layers.BatchNorm1d(3, momentum=None), lambda c: nn.BatchNorm1d(c, momentum=None)),
    "ghost": (lambda: layers.GhostBatchNorm1d(3, virtual_batch=2), nn.BatchNorm1d),
    "running": (lambda: layers.BatchNorm1d(3, normalize_with="running"), nn.BatchNorm1d),
    "stock": (lambda: nn.BatchNorm1d(3), nn.BatchNorm1d),
    "calls super": (lambda: CallsSuper(3), nn.BatchNorm1d),
    "instance": (lambda: layers.InstanceNorm1d(3, track_running_stats=True),
                 lambda c: nn.InstanceNorm1d(c, track_running_stats=True)),
    "stock instance": (lambda: nn.InstanceNorm1d(3, track_running_stats=True),
                       lambda c: nn.InstanceNorm1d(c, track_running_stats=True)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [0.0, 1e3], ids=["unit", "large mean"])
def test_as_the_large_batch(kind: str, mean: float) -> None:
    """Two commits, of unequal micro-batches; and what is left at the end is a third."""
    make, stock = KINDS[kind]
    layer, large = make().double(), stock(3).double()
    x = random(24, 3, 4, mean=mean) + torch.linspace(0, 5, 24, dtype=torch.float64)[:, None, None]
    sizes, at = [5, 1, 3, 2, 6, 4, 3], 0
    with accumulate(nn.Sequential(layer), micro_batches=3):
        for part in x.split(sizes):
            layer(part)
    for wanted in ([5, 1, 3], [2, 6, 4], [3]):
        large(x[at : at + sum(wanted)])
        at += sum(wanted)
    close(layer.running_mean, large.running_mean)
    close(layer.running_var, large.running_var)
    assert int(layer.num_batches_tracked) == int(large.num_batches_tracked)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.floats(-1e3, 1e3), st.integers(0, 99))
def test_of_any_split(sizes: list[int], mean: float, seed: int) -> None:
    layer, large = layers.BatchNorm1d(2, momentum=1.0).double(), nn.BatchNorm1d(2, momentum=1.0).double()
    x = random(sum(sizes), 2, 3, seed=seed, mean=mean)
    with accumulate(layer, len(sizes)):
        for part in x.split(sizes):
            layer(part)
    large(x)
    close(layer.running_mean, large.running_mean)
    close(layer.running_var, large.running_var)


@pytest.mark.parametrize("mean", [0.0, 1e3], ids=["unit", "large mean"])
def test_in_float32(mean: float) -> None:
    layer = layers.BatchNorm1d(3, momentum=1.0)
    x = random(64, 3, mean=mean, dtype=torch.float32) + torch.linspace(0, 4, 64)[:, None]
    with accumulate(layer, 8):
        for part in x.split(8):
            layer(part)
    exact = x.double()
    close(layer.running_mean, exact.mean(0), tolerance=ROUNDINGS * torch.finfo(torch.float32).eps)
    error = (layer.running_var.double() - exact.var(0)).abs().max()
    assert error < pooled_bound(mean, apart=4.0, var=float(exact.var(0).max()))


def test_masked_micro_batches_count_what_is_real() -> None:
    layer, large = layers.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    x = random(6, 3, 5, mean=7.0)
    real = torch.arange(5) < torch.tensor([[5], [2], [1], [0], [0], [4]])
    with accumulate(layer, 3):
        for part, mask in zip(x.split(2), real.split(2), strict=True):
            layer(part, mask)
    large(x.movedim(1, 2)[real])
    close(layer.running_mean, large.running_mean)
    close(layer.running_var, large.running_var)


def test_of_masked_instance_norm() -> None:
    """The average over samples, in which one without a real position has no part."""
    layer = layers.InstanceNorm1d(3, momentum=1.0, track_running_stats=True).double()
    x, lengths = random(6, 3, 5, mean=7.0), [5, 2, 3, 0, 0, 4]
    real = torch.arange(5) < torch.tensor(lengths)[:, None]
    with accumulate(layer, 3):
        for part, mask in zip(x.split(2), real.split(2), strict=True):
            layer(part, mask)
    parts = [sample[:, :length] for sample, length in zip(x, lengths, strict=True) if length]
    close(layer.running_mean, torch.stack([part.mean(1) for part in parts]).mean(0))
    close(layer.running_var, torch.stack([part.var(1) for part in parts]).mean(0))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e200], ids=str)
@pytest.mark.parametrize("when", [0, 1, 2])
def test_a_micro_batch_that_is_not_finite_is_left_out(bad: float, when: int) -> None:
    layer, large = layers.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    parts = list(random(12, 3).split(4))
    spoilt = parts[when].clone()
    spoilt[1, 2] = bad
    with accumulate(layer, 3):
        for number, part in enumerate(parts):
            layer(spoilt if number == when else part)
    large(torch.cat([part for number, part in enumerate(parts) if number != when]))
    close(layer.running_mean, large.running_mean)
    close(layer.running_var, large.running_var)
    assert (int(layer.skipped_non_finite), int(layer.num_batches_tracked)) == (1, 1)


def test_nothing_but_what_is_not_finite_is_no_commit() -> None:
    layer = layers.BatchNorm1d(3)
    before = statistics(layer)
    with accumulate(layer, 2):
        for _ in range(2):
            layer(torch.full((4, 3), torch.nan))
    assert same(before | {"skipped_non_finite": torch.tensor(2)}, statistics(layer))


@pytest.mark.parametrize("kind", ["ours", "stock"])
def test_an_error_drops_what_was_not_committed(kind: str) -> None:
    layer, twin = KINDS[kind][0](), KINDS[kind][0]()
    its_class = type(layer)

    def fail() -> None:
        with accumulate(layer, 2):
            for seed in range(3):
                layer(random(4, 3, seed=seed, dtype=torch.float32))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with accumulate(twin, 2):
        for seed in range(2):
            twin(random(4, 3, seed=seed, dtype=torch.float32))
    assert type(layer) is its_class
    assert same(statistics(twin), statistics(layer))
    layer(random(4, 3, dtype=torch.float32))
    assert int(layer.num_batches_tracked) == 2


def test_nested() -> None:
    """What is frozen in between is no micro-batch; pools of pools go to the outermost."""
    layer, large = layers.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    x = random(16, 3)
    with accumulate(layer, 2):
        for half in x.split(8):
            with accumulate(layer, 2):
                for part in half.split(4):
                    with stats_frozen(layer):
                        layer(part + 100)
                    layer(part)
    large(x)
    close(layer.running_mean, large.running_mean)
    close(layer.running_var, large.running_var)
    assert int(layer.num_batches_tracked) == 1


def test_outputs_are_those_of_each_micro_batch() -> None:
    layer, twin = layers.BatchNorm1d(3), nn.BatchNorm1d(3)
    with accumulate(layer, 2):
        for seed in range(2):
            x = random(4, 3, seed=seed, dtype=torch.float32)
            assert torch.equal(layer(x), twin(x))


def test_under_compile() -> None:
    layer = layers.BatchNorm1d(3)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for call, model in ((compiled, layer), (twin, twin)):
        with accumulate(model, 2):
            for seed in range(4):
                call(random(4, 3, seed=seed, dtype=torch.float32))
    for name, value in statistics(twin).items():
        torch.testing.assert_close(statistics(layer)[name], value)


def test_no_micro_batches_are_refused() -> None:
    with pytest.raises(InvalidInputError) as raised, accumulate(nn.BatchNorm1d(3), 0):
        pass
    assert str(raised.value) == "accumulate: `micro_batches` must be a whole number, at least 1.\n  got: 0"
