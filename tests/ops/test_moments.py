"""Moments of parts put together."""

import functools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.layers.oracle import close, random

from normlab import reference
from normlab.ops import Moments, merge
from normlab.ops.batch_norm import batch_norm, moments_of
from normlab.ops.moments import unbiased

parts = st.lists(st.integers(0, 6), min_size=2, max_size=6).filter(lambda sizes: sum(sizes) > 1)


def of(x: torch.Tensor, *, as_tensor: bool) -> Moments:
    """Of two channels; nothing for no values."""
    count: Any = torch.tensor(float(len(x)), dtype=torch.float64) if as_tensor else len(x)
    if not len(x):
        return Moments(torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), count)
    return Moments(x.mean(0), x.var(0, correction=0) * (len(x) / max(len(x) - 1, 1)), count)


@settings(deadline=None)
@given(parts, st.floats(-1e3, 1e3), st.integers(0, 99), st.booleans())
def test_merging_gives_the_moments_of_all_values(sizes: list[int], mean: float, seed: int, as_tensor: bool) -> None:
    x = random(sum(sizes), 2, seed=seed, mean=mean)
    merged = functools.reduce(merge, (of(part, as_tensor=as_tensor) for part in x.split(sizes)))
    close(merged.mean, x.mean(0))
    close(merged.var, x.var(0))
    assert float(merged.count) == len(x)


@settings(deadline=None)
@given(parts.filter(lambda sizes: len(sizes) > 2), st.integers(0, 99))
def test_the_order_does_not_matter(sizes: list[int], seed: int) -> None:
    each = [of(part, as_tensor=False) for part in random(sum(sizes), 2, seed=seed).split(sizes)]
    one = functools.reduce(merge, each)
    other = functools.reduce(lambda a, b: merge(b, a), reversed(each))
    tree = merge(merge(each[0], functools.reduce(merge, each[2:])), each[1])
    for mine in (other, tree):
        for a, b in zip(mine[:2], one[:2], strict=True):
            close(a, b)


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 99))
def test_against_the_reference(a: int, b: int, seed: int) -> None:
    first, second = (of(random(size, 2, seed=seed + size, mean=3.0), as_tensor=False) for size in (a, b))
    biased = [(each.var * (max(each.count - 1, 0) / max(each.count, 1))).numpy() for each in (first, second)]
    mean, var, count = reference.merge_moments(first.mean.numpy(), biased[0], a, second.mean.numpy(), biased[1], b)
    merged = merge(first, second)
    if count:
        close(merged.mean, mean)
    close(merged.var, var * (count / max(count - 1, 1)))
    assert merged.count == count


def test_unbiased() -> None:
    for count in (4, torch.tensor(4.0, dtype=torch.float64)):
        close(unbiased(torch.tensor([3.0]), count), [4.0])
    for count in (1, 0, torch.tensor(1.0), torch.tensor(0.0)):
        assert unbiased(torch.tensor([0.0]), count).tolist() == [0.0]


@pytest.mark.parametrize("axis", [1, -1, 0])
@pytest.mark.parametrize(
    ("backend", "masked"),
    [("stock", False), ("registered", False), ("registered", True), ("formula", False), ("formula", True)],
)
def test_of_a_batch(axis: int, masked: bool, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the output and without it."""
    monkeypatch.setattr("normlab.kernels.pick.forced", backend)
    shape = {1: (4, 3, 5), -1: (4, 5, 3), 0: (3, 4, 5)}[axis]
    x, mask = random(*shape, mean=1e3), random(4, 5, seed=2) > 0 if masked else None
    mean, var, count = reference.batch_norm_statistics(
        x.numpy(), axis=axis, mask=None if mask is None else mask.numpy()
    )
    for found in (batch_norm(x, axis=axis, mask=mask)[1], moments_of(x, axis=axis, mask=mask)):
        close(found.mean, mean)
        close(found.var, var * (count / (count - 1)))
        assert float(found.count) == count


@pytest.mark.parametrize("backend", ["stock", "registered", "formula"])
def test_of_one_value_and_of_none(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normlab.kernels.pick.forced", backend)
    moments = batch_norm(torch.tensor([[3.0, 4.0]]))[1]
    assert (moments.mean.tolist(), moments.var.tolist(), moments.count) == ([3.0, 4.0], [0.0, 0.0], 1)
    if backend != "stock":
        nothing = torch.zeros(2, dtype=torch.bool)
        for found in (batch_norm(torch.ones(2, 3), mask=nothing)[1], moments_of(torch.ones(2, 3), mask=nothing)):
            assert float(found.count) == 0
