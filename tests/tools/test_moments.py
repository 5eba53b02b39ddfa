"""Moments that are merged, against NumPy over everything at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tolerances import POPULATION
from torch import nn

from normlab.tools.moments import Moments, averaged, merge, moments_of, moving, pooled
from normlab.tools.recalibrate import recalibrate_


@st.composite
def ragged(draw: st.DrawFn) -> list[torch.Tensor]:
    """Batches of 1 to 9 samples of two channels, around means that differ, far from 0 too."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    far = draw(st.sampled_from([0.0, 1.0, 1e3]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return [
        far + 5 * torch.randn(1, 2, generator=generator, dtype=torch.float64)
        + torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in sizes
    ]  # fmt: skip


def close(one: Moments, mean: np.ndarray, var: np.ndarray, count: int) -> None:
    np.testing.assert_allclose(one.mean, mean, rtol=POPULATION, atol=POPULATION)
    np.testing.assert_allclose(one.var, var, rtol=POPULATION, atol=POPULATION)
    assert one.count == count


@settings(deadline=None)
@given(ragged())
def test_recalibrating_gives_the_statistics_of_all_data_however_it_is_split(batches: list[torch.Tensor]) -> None:
    norm = nn.BatchNorm1d(2).double()
    recalibrate_(norm, batches)
    x = torch.cat(batches).numpy()
    np.testing.assert_allclose(norm.running_mean, x.mean(0), rtol=POPULATION, atol=POPULATION)
    np.testing.assert_allclose(norm.running_var, x.var(0, ddof=1), rtol=POPULATION, atol=POPULATION)


@settings(deadline=None)
@given(ragged(), st.randoms(use_true_random=False))
def test_the_order_of_merging_does_not_matter(batches: list[torch.Tensor], random: object) -> None:
    x = torch.cat(batches).numpy()
    whole = (x.mean(0), x.var(0, ddof=1), len(x))
    parts = [moments_of(batch) for batch in batches]
    close(pooled(parts), *whole)
    close(pooled(parts[::-1]), *whole)
    while len(parts) > 1:  # any tree
        one, other = (parts.pop(random.randrange(len(parts))) for _ in range(2))
        parts.append(merge(one, other))
    close(parts[0], *whole)


def test_a_part_without_values_changes_nothing() -> None:
    some, none = moments_of(torch.tensor([[1.0], [2.0], [6.0]])), moments_of(torch.zeros(0, 1))
    assert none.count == 0
    for merged in (merge(some, none), merge(none, some)):
        close(merged, np.array([3.0]), np.array([7.0]), 3)
    assert merge(none, none).count == 0


@pytest.mark.parametrize("channel_dim", [0, 1, 2, -1])
def test_moments_of_any_channel_dimension(channel_dim: int) -> None:
    x = 1e4 + torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    rows = np.moveaxis(x.double().numpy(), channel_dim, 0).reshape(x.shape[channel_dim], -1)
    close(moments_of(x, channel_dim), rows.mean(1), rows.var(1, ddof=1), rows.shape[1])


def test_averages_by_hand() -> None:
    steps = [
        Moments(torch.tensor([mean]), torch.tensor([var]), count) for mean, var, count in ((0.0, 1.0, 9), (4.0, 3.0, 1))
    ]
    close(averaged(steps), np.array([2.0]), np.array([2.0]), 10)
    close(moving(steps, 0.25), np.array([1.0]), np.array([1.5]), 10)
    close(moving(steps, None), np.array([2.0]), np.array([2.0]), 10)
