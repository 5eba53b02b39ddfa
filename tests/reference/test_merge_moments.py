import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tests.reference.torch_check import assert_near
from tests.tolerances import EPS, ROUNDINGS, TORCH

from normlab import errors
from normlab.reference import batch_norm_statistics, merge_moments

seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 9)
quick = settings(max_examples=50, deadline=None, derandomize=True)
NOTHING = np.full(2, np.nan), np.full(2, np.inf), 0


def assert_same(actual: tuple, expected: tuple, size: float = 1.0) -> None:
    """The mean is off by some ulp of `size`, the largest value; the variance, of the squares of deviations."""
    assert actual[2] == expected[2]
    assert_near(actual[0], expected[0], ROUNDINGS * EPS * size)
    assert_near(actual[1], expected[1], TORCH * np.maximum(1.0, expected[1]).max())


def test_two_parts_worked_by_hand() -> None:
    """1, 3 and 8, 10, 12: means 2 and 10, variances 1 and 8/3, together mean 34/5 and variance 318/5 − (34/5)²."""
    mean, var, n = merge_moments(np.array([2.0]), np.array([1.0]), 2, np.array([10.0]), np.array([8 / 3]), 3)
    assert_near(mean, np.array([6.8]), TORCH)
    assert_near(var, np.array([17.36]), TORCH)
    assert n == 5


@quick
@given(seed=seeds, first=counts, second=counts, mean=st.sampled_from([0.0, 1e3, 1e8]))
def test_it_is_the_moments_of_all_values_at_once(seed: int, first: int, second: int, mean: float) -> None:
    """At a mean of 1e8 and a deviation of 1 to 3, E[x²] − E[x]² would have no digit left."""
    rng = np.random.default_rng(seed)
    a, b = mean + rng.standard_normal((first, 2)), mean + 2 + 3 * rng.standard_normal((second, 2))
    merged = merge_moments(*batch_norm_statistics(a), *batch_norm_statistics(b))
    _, var, n = batch_norm_statistics(np.concatenate([a, b]) - mean)
    assert merged[2] == n
    assert_near(merged[0], np.concatenate([a, b]).mean(axis=0), ROUNDINGS * EPS * max(mean, 10))
    # values are off by half an ulp of the mean once it is added, and so are the deviations
    assert_near(merged[1], var, ROUNDINGS * EPS * max(mean, 10) * max(10, var.max()))


@quick
@given(seed=seeds, sizes=st.tuples(counts, counts, counts))
def test_it_is_associative_and_the_order_does_not_matter(seed: int, sizes: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = (batch_norm_statistics(10 * rng.standard_normal(2) + rng.standard_normal((n, 2))) for n in sizes)
    size = max(np.abs(part[0]).max() for part in (a, b, c))
    assert_same(merge_moments(*merge_moments(*a, *b), *c), merge_moments(*a, *merge_moments(*b, *c)), size)
    assert_same(merge_moments(*a, *b), merge_moments(*b, *a), size)


def test_a_part_without_values_says_nothing_whatever_its_moments_are() -> None:
    part = np.array([1.0, 2.0]), np.array([3.0, 4.0]), 5
    for merged in (merge_moments(*part, *NOTHING), merge_moments(*NOTHING, *part)):
        assert merged[2] == 5
        assert np.array_equal(merged[:2], part[:2])
        merged[0][:] = merged[1][:] = -1  # a copy
    assert part[0].tolist() == [1, 2]
    assert part[1].tolist() == [3, 4]
    assert merge_moments(*NOTHING, *NOTHING)[2] == 0


def test_counts_may_be_as_large_as_they_like() -> None:
    """Their product is not: 10³⁰⁰ · 10³⁰⁰ is no float."""
    mean, var, n = merge_moments(np.zeros(1), np.zeros(1), 10**300, np.ones(1), np.zeros(1), 10**300)
    assert (mean.item(), var.item(), n) == (0.5, 0.25, 2 * 10**300)


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        merge_moments(np.zeros(2), np.zeros(2), -1, np.zeros(3), np.zeros(2), -2)
    assert (
        str(raised.value)
        == """\
merge_moments: `mean_b` must have shape (2,), that of `mean_a`.
  got: mean_b (3,) float64
  fix: pass an array of shape (2,).
merge_moments: `count_a` must be at least 0.
  got: count_a = -1
merge_moments: `count_b` must be at least 0.
  got: count_b = -2"""
    )
