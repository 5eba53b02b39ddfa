import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tests.reference.torch_check import assert_near
from tests.tolerances import GRADIENT

from normlab import errors
from normlab.reference import check_gradient, dropout, dropout_vjp

X = np.random.default_rng(0).standard_normal((7, 5))
DY = np.random.default_rng(1).standard_normal((7, 5))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), p=st.floats(0, 0.99))
def test_a_value_is_dropped_or_scaled_and_its_gradient_with_it(seed: int, p: float) -> None:
    y, (dx,) = dropout(X, p=p, seed=seed), dropout_vjp(DY, X, p=p, seed=seed)
    kept = y != 0
    assert_near(y, np.where(kept, X * (1 / (1 - p)), 0), 0.0)
    assert_near(dx, np.where(kept, DY * (1 / (1 - p)), 0), 0.0)


@pytest.mark.parametrize(("p", "factor"), [(0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_nothing_and_everything_can_be_dropped(p: float, factor: float, seed: int) -> None:
    assert_near(dropout(X, p=p, seed=seed), factor * X, 0.0)
    assert_near(dropout_vjp(DY, X, p=p, seed=seed)[0], factor * DY, 0.0)


def test_the_share_that_is_kept() -> None:
    """Within five standard deviations of a binomial, a bound that no honest seed breaks."""
    n, p = 40_000, 0.25
    y = dropout(np.ones(n), p=p, seed=3)
    assert abs(np.count_nonzero(y) - (1 - p) * n) < 5 * np.sqrt(n * p * (1 - p))


def test_a_seed_repeats_and_another_one_differs() -> None:
    assert np.array_equal(dropout(X, p=0.5, seed=1), dropout(X, p=0.5, seed=1))
    assert not np.array_equal(dropout(X, p=0.5, seed=1), dropout(X, p=0.5, seed=2))


def test_evaluation_changes_nothing_and_returns_a_copy() -> None:
    y = dropout(X, p=0.5, seed=1, training=False)
    (dx,) = dropout_vjp(DY, X, p=0.5, seed=1, training=False)
    assert_near(y, X, 0.0)
    assert_near(dx, DY, 0.0)
    assert not np.shares_memory(y, X)
    assert not np.shares_memory(dx, DY)


@pytest.mark.parametrize("training", [True, False])
def test_vjp_agrees_with_differences(training: bool) -> None:
    how = {"p": 0.4, "seed": 5, "training": training}
    assert check_gradient(lambda x: dropout(x, **how), lambda dy, x: dropout_vjp(dy, x, **how), X).error <= GRADIENT


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        dropout_vjp(DY[0], X, p=1.5, seed=-1)
    assert (
        str(raised.value)
        == """\
dropout_vjp: `dy` must have shape (7, 5), that of the output.
  got: dy (5,) float64; x (7, 5) float64
  fix: pass an array of shape (7, 5).
dropout_vjp: `p` must lie in [0, 1].
  got: p = 1.5
  fix: `p` is the probability of dropping a value; keep 0.25 is p=0.75.
dropout_vjp: `seed` must not be negative.
  got: seed = -1"""
    )
