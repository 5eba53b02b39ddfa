"""Batch renormalization: numbers by hand, the algorithm in torch, and what it becomes at either end of its bounds."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.reference.torch_check import assert_as_torch, assert_near
from tests.tolerances import GRADIENT, TORCH

from normlab import errors
from normlab.reference import (
    batch_norm,
    batch_norm_statistics,
    batch_norm_vjp,
    batch_renorm,
    batch_renorm_vjp,
    check_gradient,
    update_running,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3, 2, 2))
DY = RNG.standard_normal(X.shape)
WEIGHT, BIAS = RNG.standard_normal((2, 3))
MASK = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool).reshape(4, 2, 2)
REAL = np.broadcast_to(MASK[:, None], X.shape)
# The first channel is corrected in full, in the second r is clipped, in the third both are.
RUNNING = {"running_mean": np.array([0.1, 0.3, -2.0]), "running_var": np.array([0.9, 9.0, 0.01])}
BOUNDS = {"r_max": 2.0, "d_max": 1.5}
EPS = 1e-5
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None, derandomize=True)


def test_a_channel_worked_by_hand() -> None:
    """Values 1, 2, 3, 6 have x_hat −1, −½, 0, 1½ and σ_B = 2 with eps ½; σ = √(½ + ½) = 1, so that r = 2 and
    d = (3 − 1) / 1 = 2, of which d_max leaves 1."""
    x, weight, bias = np.array([[1.0], [2.0], [3.0], [6.0]]), np.array([4.0]), np.array([10.0])
    how = {"running_mean": np.array([1.0]), "running_var": np.array([0.5]), "d_max": 1.0, "eps": 0.5}
    y = batch_renorm(x, weight, bias, **how)
    assert_near(y.ravel(), np.array([6.0, 10.0, 14.0, 26.0]), 0.0)  # x_hat · r + d = −1, 0, 1, 4
    # dx of batch norm is 1, −¾, −½, ¼ (test_batch_norm.py), and r times that here.
    dx, dweight, dbias = batch_renorm_vjp(np.array([[1.0], [0.0], [0.0], [0.0]]), x, weight, bias, **how)
    assert_near(dx.ravel(), np.array([2.0, -1.5, -1.0, 0.5]), 0.0)
    assert_near(dweight, np.array([-1.0]), 0.0)
    assert_near(dbias, np.array([1.0]), 0.0)


def renorm_in_torch(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, running: dict, mask: np.ndarray | None = None
) -> torch.Tensor:
    """Algorithm 1 as it is printed, its stop_gradient being `detach`; σ from the running variance."""
    real = torch.ones(len(x), *x.shape[2:], dtype=torch.bool) if mask is None else torch.tensor(mask)
    of_channel = (1, -1, *[1] * (x.ndim - 2))
    values = x.movedim(1, -1)[real]
    mu_b = values.mean(dim=0)
    sigma_b = (((values - mu_b) ** 2).mean(dim=0) + EPS).sqrt()
    mu, sigma = torch.tensor(running["running_mean"]), (torch.tensor(running["running_var"]) + EPS).sqrt()
    r = (sigma_b / sigma).detach().clamp(1 / BOUNDS["r_max"], BOUNDS["r_max"])
    d = ((mu_b - mu) / sigma).detach().clamp(-BOUNDS["d_max"], BOUNDS["d_max"])
    x_hat = (x - mu_b.view(of_channel)) / sigma_b.view(of_channel) * r.view(of_channel) + d.view(of_channel)
    return x_hat * weight.view(of_channel) + bias.view(of_channel)


def test_the_cases_of_the_bounds_are_all_there() -> None:
    mean, var, _ = batch_norm_statistics(X)
    r = np.sqrt((var + EPS) / (RUNNING["running_var"] + EPS))
    d = (mean - RUNNING["running_mean"]) / np.sqrt(RUNNING["running_var"] + EPS)
    assert [0.5 < one < 2 for one in r] == [True, False, False]
    assert [abs(one) < 1.5 for one in d] == [True, True, False]
    assert r[1] < 0.5
    assert r[2] > 2


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_it_is_the_algorithm_of_the_paper(mask: np.ndarray | None, mean: float) -> None:
    """Rounding is of the size of the mean; E[x²] − E[x]² would square it."""
    running = RUNNING | {"running_mean": mean + RUNNING["running_mean"]}
    assert_as_torch(
        lambda *a: batch_renorm(*a, **running, **BOUNDS, mask=mask),
        lambda *a: batch_renorm_vjp(*a, **running, **BOUNDS, mask=mask),
        lambda *a: renorm_in_torch(*a, running, mask),
        mean + X,
        WEIGHT,
        BIAS,
        atol=TORCH * max(1.0, mean),
    )


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_the_vjp_agrees_with_differences_where_r_and_d_are_clipped(mask: np.ndarray | None) -> None:
    """There they are constants for differences too."""
    running = {"running_mean": np.array([9.0, -9.0, 9.0]), "running_var": np.array([100.0, 0.01, 0.01])}
    how = {**running, "r_max": 1.5, "d_max": 0.25, "mask": mask}
    check = check_gradient(lambda *a: batch_renorm(*a, **how), lambda *a: batch_renorm_vjp(*a, **how), X, WEIGHT, BIAS)
    assert check.error <= GRADIENT


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_channels_may_stand_on_any_axis(axis: int) -> None:
    x, dy = np.moveaxis(X, 1, axis), np.moveaxis(DY, 1, axis)
    y = batch_renorm(x, WEIGHT, BIAS, **RUNNING, **BOUNDS, axis=axis)
    assert_near(y, np.moveaxis(batch_renorm(X, WEIGHT, BIAS, **RUNNING, **BOUNDS), 1, axis), TORCH)
    dx, *of_parameters = batch_renorm_vjp(dy, x, WEIGHT, BIAS, **RUNNING, **BOUNDS, axis=axis)
    expected_dx, *expected = batch_renorm_vjp(DY, X, WEIGHT, BIAS, **RUNNING, **BOUNDS)
    assert_near(np.moveaxis(dx, axis, 1), expected_dx, TORCH)
    for ours, theirs in zip(of_parameters, expected, strict=True):
        assert_near(ours, theirs, TORCH)


@quick
@given(seed=seeds, masked=st.booleans(), mean=st.sampled_from([0.0, 1e3]))
def test_without_correction_it_is_batch_norm_bit_for_bit(seed: int, masked: bool, mean: float) -> None:
    rng = np.random.default_rng(seed)
    x, dy, weight, bias = mean + rng.standard_normal((5, 2, 3)), *(rng.standard_normal(s) for s in ((5, 2, 3), 2, 2))
    mask = rng.random((5, 3)) < 0.8 if masked else None
    running = {"running_mean": rng.standard_normal(2), "running_var": rng.uniform(0.1, 9, 2)}
    how = {**running, "r_max": 1.0, "d_max": 0.0, "mask": mask}
    assert np.array_equal(batch_renorm(x, weight, bias, **how), batch_norm(x, weight, bias, mask=mask))
    found = batch_renorm_vjp(dy, x, weight, bias, **how)
    for ours, expected in zip(found, batch_norm_vjp(dy, x, weight, bias, mask=mask), strict=True):
        assert np.array_equal(ours, expected)


@quick
@given(seed=seeds, masked=st.booleans())
def test_without_bounds_training_gives_the_output_of_evaluation(seed: int, masked: bool) -> None:
    """And its dweight and dbias; dx knows of the batch, and sums to 0 over a channel, as that of batch norm."""
    rng = np.random.default_rng(seed)
    x, dy, weight, bias = (rng.standard_normal(s) for s in ((5, 2, 3), (5, 2, 3), 2, 2))
    mask = rng.random((5, 3)) < 0.8 if masked else None
    running = {"running_mean": rng.standard_normal(2), "running_var": rng.uniform(0.1, 9, 2), "mask": mask}
    free = {**running, "r_max": np.inf, "d_max": np.inf}
    y = batch_norm(x, weight, bias, **running, training=False)
    assert_near(batch_renorm(x, weight, bias, **free), y, TORCH * np.abs(y).max())
    dx, *of_parameters = batch_renorm_vjp(dy, x, weight, bias, **free)
    expected = batch_norm_vjp(dy, x, weight, bias, **running, training=False)
    for ours, theirs in zip(of_parameters, expected[1:], strict=True):
        assert_near(ours, theirs, TORCH * max(1.0, np.abs(theirs).max()))
    assert_near(dx.sum(axis=(0, 2)), np.zeros(2), TORCH * max(1.0, np.abs(dx).max()))


def test_evaluation_is_that_of_batch_norm() -> None:
    how = {**RUNNING, "training": False, "mask": MASK}
    spoilt = np.where(REAL, X, np.nan)
    assert np.array_equal(batch_renorm(spoilt, WEIGHT, BIAS, **how, **BOUNDS), batch_norm(spoilt, WEIGHT, BIAS, **how))
    found = batch_renorm_vjp(DY, spoilt, WEIGHT, BIAS, **how, **BOUNDS)
    for ours, expected in zip(found, batch_norm_vjp(DY, spoilt, WEIGHT, BIAS, **how), strict=True):
        assert np.array_equal(ours, expected)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -1e200])
def test_spoilt_padding_leaves_what_the_real_values_alone_give(junk: float) -> None:
    spoilt = np.where(REAL, X, junk)
    x, dy = (a.transpose(0, 2, 3, 1)[MASK] for a in (X, DY))
    y = batch_renorm(spoilt, WEIGHT, BIAS, **RUNNING, **BOUNDS, mask=MASK)
    assert_near(y.transpose(0, 2, 3, 1)[MASK], batch_renorm(x, WEIGHT, BIAS, **RUNNING, **BOUNDS), TORCH)
    dx, *of_parameters = batch_renorm_vjp(DY, spoilt, WEIGHT, BIAS, **RUNNING, **BOUNDS, mask=MASK)
    expected_dx, *expected = batch_renorm_vjp(dy, x, WEIGHT, BIAS, **RUNNING, **BOUNDS)
    assert_near(dx.transpose(0, 2, 3, 1)[MASK], expected_dx, TORCH)
    for ours, theirs in zip(of_parameters, expected, strict=True):
        assert_near(ours, theirs, TORCH)
    assert set(y[~REAL]) == set(dx[~REAL]) == {0.0}


def test_r_settles_at_the_root_of_the_biased_over_the_unbiased_variance() -> None:
    """What keeping the unbiased variance means: the same batch again and again, n = 4 values a channel."""
    x, (mean, var) = RNG.standard_normal((4, 2)), (np.zeros(2), np.ones(2))
    for _ in range(400):
        mean, var = update_running(mean, var, *batch_norm_statistics(x))
    y = batch_renorm(x, running_mean=mean, running_var=var, eps=0.0)
    assert_near(y, np.sqrt(3 / 4) * batch_norm(x, eps=0.0), TORCH)


def test_without_parameters_their_gradients_are_none() -> None:
    assert batch_renorm_vjp(DY, X, **RUNNING)[1:] == (None, None)


def test_all_problems_of_a_kind_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        batch_renorm_vjp(DY[:1], X, **RUNNING, r_max=0.5, d_max=np.nan)
    assert (
        str(raised.value)
        == """\
batch_renorm_vjp: `r_max` must be at least 1.
  got: r_max = 0.5
  fix: pass 1 for no correction of the scale, as at the start of the paper's training.
batch_renorm_vjp: `d_max` must be at least 0.
  got: d_max = nan
  fix: pass 0 for no correction of the shift, as at the start of the paper's training.
batch_renorm_vjp: `dy` must have shape (4, 3, 2, 2), that of the output.
  got: dy (1, 3, 2, 2) float64; x (4, 3, 2, 2) float64
  fix: pass an array of shape (4, 3, 2, 2)."""
    )


@pytest.mark.parametrize("training", [True, False])
def test_running_statistics_are_needed_in_training_too(training: bool) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        batch_renorm(X, running_var=-np.ones(3), training=training)
    assert (
        str(raised.value)
        == """\
batch_renorm: `running_mean` must be given.
  got: running_mean = None
  fix: pass it.
batch_renorm: `running_var` must not be negative.
  got: smallest -1.0"""
    )
