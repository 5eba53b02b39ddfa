"""Padding of any value, NaN and infinity too, changes nothing that is real: no output, gradient or node."""

import numpy as np
import pytest
from tests.reference.torch_check import assert_near
from tests.tolerances import GRADIENT, STEPS, TORCH

from normlab.reference import (
    batch_norm,
    batch_norm_statistics,
    batch_norm_steps,
    batch_norm_vjp,
    check_gradient,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3, 2, 2))
DY = RNG.standard_normal(X.shape)
WEIGHT, BIAS, MEAN = RNG.standard_normal((3, 3))
MASK = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool).reshape(4, 2, 2)
REAL = np.broadcast_to(MASK[:, None], X.shape)
MODES = {
    "training": {"mask": MASK},
    "evaluation": {"mask": MASK, "running_mean": MEAN, "running_var": np.array([0.5, 1.0, 2.0]), "training": False},
}
JUNK = [np.nan, np.inf, -np.inf, 1e307, -1e200]

each_mode = pytest.mark.parametrize("mode", MODES)
each_junk = pytest.mark.parametrize("junk", JUNK)


def of_real_values(mode: str):
    """Output and gradients of the real values alone, without mask; DY of the padding is left out."""
    how = {**MODES[mode]}
    del how["mask"]
    x, dy = (a.transpose(0, 2, 3, 1)[MASK] for a in (X, DY))
    return batch_norm(x, WEIGHT, BIAS, **how), *batch_norm_vjp(dy, x, WEIGHT, BIAS, **how)


def real(values: np.ndarray) -> np.ndarray:
    return values.transpose(0, 2, 3, 1)[MASK]


@each_mode
@each_junk
def test_spoilt_padding_leaves_what_the_real_values_alone_give(mode: str, junk: float) -> None:
    """The gradient from above is random at the padding too."""
    spoilt = np.where(REAL, X, junk)
    y, dx, dweight, dbias = of_real_values(mode)
    assert_near(real(batch_norm(spoilt, WEIGHT, BIAS, **MODES[mode])), y, TORCH)
    found = batch_norm_vjp(DY, spoilt, WEIGHT, BIAS, **MODES[mode])
    assert_near(real(found[0]), dx, TORCH)
    assert_near(found[1], dweight, TORCH)
    assert_near(found[2], dbias, TORCH)


@each_mode
@each_junk
def test_spoilt_padding_comes_out_as_0_with_gradient_0(mode: str, junk: float) -> None:
    spoilt = np.where(REAL, X, junk)
    padding = ~REAL
    assert set(batch_norm(spoilt, WEIGHT, BIAS, **MODES[mode])[padding]) == {0.0}
    assert set(batch_norm_vjp(DY, spoilt, WEIGHT, BIAS, **MODES[mode])[0][padding]) == {0.0}


@each_mode
@pytest.mark.parametrize("junk", [np.nan, np.inf])
def test_a_gradient_from_above_that_is_not_finite_at_the_padding_counts_as_0(mode: str, junk: float) -> None:
    """An op behind the norm may make 0 · ∞ of it."""
    spoilt, clean = np.where(REAL, DY, junk), np.where(REAL, DY, 0.0)
    found = batch_norm_vjp(spoilt, X, WEIGHT, BIAS, **MODES[mode])
    for ours, expected in zip(found, batch_norm_vjp(clean, X, WEIGHT, BIAS, **MODES[mode]), strict=True):
        assert np.array_equal(ours, expected)


@each_mode
def test_finite_padding_is_normalized_too_and_has_its_gradient(mode: str) -> None:
    how = MODES[mode]
    assert not np.array_equal(batch_norm(X, **how), batch_norm(np.where(REAL, X, 0.5), **how))
    check = check_gradient(lambda *a: batch_norm(*a, **how), lambda *a: batch_norm_vjp(*a, **how), X, WEIGHT, BIAS)
    assert check.error <= GRADIENT


@each_mode
def test_the_vjp_is_the_gradient_where_some_padding_is_spoilt(mode: str) -> None:
    how, spoilt = MODES[mode], ~REAL & (RNG.random(X.shape) < 0.5)
    assert spoilt.any()

    def fill(x: np.ndarray) -> np.ndarray:
        return np.where(spoilt, np.nan, x)

    check = check_gradient(
        lambda x, *p: batch_norm(fill(x), *p, **how),
        lambda dy, x, *p: batch_norm_vjp(dy, fill(x), *p, **how),
        X,
        WEIGHT,
        BIAS,
    )
    assert check.error <= GRADIENT


@each_mode
@each_junk
def test_the_nodes_are_finite_and_end_in_the_closed_form(mode: str, junk: float) -> None:
    spoilt = np.where(REAL, X, junk)
    record = batch_norm_steps(spoilt, WEIGHT, BIAS, DY, **MODES[mode])
    for step in record.steps:
        assert np.isfinite(step.value).all(), step.name
        assert step.gradient is None or np.isfinite(step.gradient).all(), step.name
    assert_near(record.steps[-1].value, batch_norm(spoilt, WEIGHT, BIAS, **MODES[mode]), STEPS)
    found = record.dx, record.dweight, record.dbias
    for ours, expected in zip(found, batch_norm_vjp(DY, spoilt, WEIGHT, BIAS, **MODES[mode]), strict=True):
        assert_near(ours, expected, STEPS * np.abs(expected).max())


@each_junk
def test_statistics_never_read_the_padding(junk: float) -> None:
    found = batch_norm_statistics(np.where(REAL, X, junk), mask=MASK)
    for ours, expected in zip(found, batch_norm_statistics(X, mask=MASK), strict=True):
        assert np.array_equal(ours, expected)


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_on_any_axis(axis: int) -> None:
    spoilt, dy = (np.moveaxis(a, 1, axis) for a in (np.where(REAL, X, np.nan), DY))
    assert_near(
        np.moveaxis(batch_norm(spoilt, WEIGHT, BIAS, axis=axis, mask=MASK), axis, 1),
        batch_norm(np.where(REAL, X, np.nan), WEIGHT, BIAS, mask=MASK),
        TORCH,
    )
    _, dx, *parameters = of_real_values("training")
    found = batch_norm_vjp(dy, spoilt, WEIGHT, BIAS, axis=axis, mask=MASK)
    assert_near(real(np.moveaxis(found[0], axis, 1)), dx, TORCH)
    for ours, expected in zip(found[1:], parameters, strict=True):
        assert_near(ours, expected, TORCH)


def test_a_value_that_is_real_and_not_finite_is_not_hidden() -> None:
    spoilt = X.copy()
    spoilt[0, 0, 0, 0] = np.nan
    assert MASK[0, 0, 0]
    assert np.isnan(batch_norm(spoilt, mask=MASK)[0, 0, 0, 0])
    assert np.isnan(batch_norm_vjp(DY, spoilt, WEIGHT, mask=MASK)[1][0])


def test_in_evaluation_nothing_need_be_real() -> None:
    nothing = MODES["evaluation"] | {"mask": np.zeros((4, 2, 2), dtype=bool)}
    assert set(batch_norm(np.full(X.shape, np.nan), WEIGHT, BIAS, **nothing).ravel()) == {0.0}
