"""What only batch norm has: evaluation, masks, statistics, a channel axis."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.reference.torch_check import assert_as_torch, assert_near
from tests.tolerances import GRADIENT, STEPS, TORCH
from torch.nn import functional

from normlab import errors
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
VAR = RNG.uniform(0.5, 2, 3)
MASK = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool).reshape(4, 2, 2)
EVAL = {"running_mean": MEAN, "running_var": VAR, "training": False}


def test_a_channel_worked_by_hand() -> None:
    """Values 1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5; with eps 0.5 the deviation is 2."""
    x = np.array([[1.0], [2.0], [3.0], [6.0]])
    weight, bias = np.array([4.0]), np.array([10.0])
    assert_near(batch_norm(x, weight, bias, eps=0.5).ravel(), np.array([6.0, 8.0, 10.0, 16.0]), 0.0)
    # x_hat = −1, −½, 0, 1½. With dy = (1, 0, 0, 0): Σ dy·x_hat = −1, g = (4, 0, 0, 0), and
    # dx = ½ · (g − ¼ · (4 − 4 · x_hat)) = ½ · (g − 1 + x_hat).
    dx, dweight, dbias = batch_norm_vjp(np.array([[1.0], [0.0], [0.0], [0.0]]), x, weight, bias, eps=0.5)
    assert_near(dx.ravel(), np.array([1.0, -0.75, -0.5, 0.25]), 0.0)
    assert_near(dweight, np.array([-1.0]), 0.0)
    assert_near(dbias, np.array([1.0]), 0.0)


def test_evaluation_is_that_of_torch() -> None:
    mean, var = torch.tensor(MEAN), torch.tensor(VAR)
    assert_as_torch(
        lambda *a: batch_norm(*a, **EVAL),
        lambda *a: batch_norm_vjp(*a, **EVAL),
        lambda x, w, b: functional.batch_norm(x, mean, var, w, b, training=False),
        X,
        WEIGHT,
        BIAS,
    )


def test_evaluation_adds_eps_once() -> None:
    """The article behind S0 stores var + eps and adds eps again."""
    y = batch_norm(np.array([[2.0]]), running_mean=np.zeros(1), running_var=np.array([3.0]), training=False, eps=1.0)
    assert y.item() == 1.0


def test_evaluation_of_an_empty_batch() -> None:
    y = batch_norm(np.zeros((0, 3)), **EVAL)
    dx, dweight, _ = batch_norm_vjp(y, y, WEIGHT, **EVAL)
    assert y.shape == dx.shape == (0, 3)
    assert_near(dweight, np.zeros(3), 0.0)


@pytest.mark.parametrize(
    "settings_", [EVAL, {"mask": MASK}, {"axis": -1}, {"axis": 0}], ids=["eval", "mask", "last", "first"]
)
def test_vjp_agrees_with_differences(settings_: dict) -> None:
    channels = X.shape[settings_.get("axis", 1)]
    weight, bias = RNG.standard_normal((2, channels))
    check = check_gradient(
        lambda *a: batch_norm(*a, **settings_), lambda *a: batch_norm_vjp(*a, **settings_), X, weight, bias
    )
    assert check.error <= GRADIENT


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_channels_may_stand_on_any_axis(axis: int) -> None:
    x, dy = np.moveaxis(X, 1, axis), np.moveaxis(DY, 1, axis)
    assert_near(batch_norm(x, WEIGHT, BIAS, axis=axis), np.moveaxis(batch_norm(X, WEIGHT, BIAS), 1, axis), TORCH)
    dx, dweight, dbias = batch_norm_vjp(dy, x, WEIGHT, BIAS, axis=axis)
    expected = batch_norm_vjp(DY, X, WEIGHT, BIAS)
    assert_near(np.moveaxis(dx, axis, 1), expected[0], TORCH)
    assert_near(dweight, expected[1], TORCH)
    assert_near(dbias, expected[2], TORCH)


def test_mask_means_the_statistics_of_the_real_values() -> None:
    mean, var, count = batch_norm_statistics(X, mask=MASK)
    real = X.transpose(0, 2, 3, 1)[MASK]
    assert count == len(real) == 6
    assert_near(mean, real.mean(axis=0), TORCH)
    assert_near(var, real.var(axis=0), TORCH)
    # Valid positions are those of a batch that has no others, whatever the padding gets.
    assert_near(
        batch_norm(X, WEIGHT, BIAS, mask=MASK).transpose(0, 2, 3, 1)[MASK],
        batch_norm(real, WEIGHT, BIAS),
        TORCH,
    )


def test_mask_gradient_is_that_of_the_real_values_when_padding_has_none() -> None:
    dy = DY * MASK[:, None]
    dx, dweight, dbias = batch_norm_vjp(dy, X, WEIGHT, BIAS, mask=MASK)
    flat = [a.transpose(0, 2, 3, 1)[MASK] for a in (dy, X)]
    expected = batch_norm_vjp(*flat, WEIGHT, BIAS)
    assert_near(dx.transpose(0, 2, 3, 1)[MASK], expected[0], TORCH)
    assert_near(dx.transpose(0, 2, 3, 1)[~MASK], np.zeros(((~MASK).sum(), 3)), 0.0)
    assert_near(dweight, expected[1], TORCH)
    assert_near(dbias, expected[2], TORCH)


def test_mask_is_broadcast() -> None:
    per_sample = np.array([True, False, True, True]).reshape(4, 1, 1)
    assert_near(batch_norm(X, mask=per_sample), batch_norm(X, mask=np.broadcast_to(per_sample, (4, 2, 2))), 0.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), junk=st.sampled_from([1e9, -1e300, np.inf, np.nan]))
def test_padding_reaches_no_statistic_and_no_valid_output(seed: int, junk: float) -> None:
    rng = np.random.default_rng(seed)
    x, mask = rng.standard_normal((3, 2, 4)), rng.random((3, 4)) < 0.5
    mask[0, 0] = True
    spoilt = np.where(mask[:, None], x, junk)
    with np.errstate(all="ignore"):  # the padding itself may become anything
        y, spoilt_y = batch_norm(x, mask=mask), batch_norm(spoilt, mask=mask)
        statistics = zip(batch_norm_statistics(x, mask=mask), batch_norm_statistics(spoilt, mask=mask), strict=True)
    assert all(np.array_equal(a, b) for a, b in statistics)
    assert np.array_equal(y.transpose(0, 2, 1)[mask], spoilt_y.transpose(0, 2, 1)[mask])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), first=st.integers(1, 9), second=st.integers(1, 9))
def test_statistics_of_a_concatenation_follow_from_those_of_its_parts(seed: int, first: int, second: int) -> None:
    """The law of total variance."""
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((first, 2, 3)), 2 + 3 * rng.standard_normal((second, 2, 3))
    (mean_a, var_a, n_a), (mean_b, var_b, n_b) = (batch_norm_statistics(part) for part in parts)
    mean, var, n = batch_norm_statistics(np.concatenate(parts))
    assert n == n_a + n_b
    assert_near(mean, (n_a * mean_a + n_b * mean_b) / n, TORCH)
    spread = n_a * n_b * (mean_a - mean_b) ** 2 / n**2
    assert_near(var, (n_a * var_a + n_b * var_b) / n + spread, TORCH)


def test_one_value_per_channel_gives_the_bias_where_torch_refuses() -> None:
    x = np.array([[3.0, -4.0]])
    assert_near(batch_norm(x, WEIGHT[:2], BIAS[:2]), BIAS[None, :2], 0.0)
    assert_near(batch_norm_vjp(x, x)[0], np.zeros((1, 2)), 0.0)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        functional.batch_norm(torch.tensor(x), None, None, training=True)


@pytest.mark.parametrize("settings_", [{}, EVAL, {"mask": MASK}, {"axis": -1}], ids=["train", "eval", "mask", "last"])
def test_steps_agree_with_the_closed_form(settings_: dict) -> None:
    channels = X.shape[settings_.get("axis", 1)]
    weight, bias = RNG.standard_normal((2, channels))
    record = batch_norm_steps(X, weight, bias, DY, **settings_)
    assert_near(record.steps[-1].value, batch_norm(X, weight, bias, **settings_), STEPS)
    for ours, expected in zip(
        (record.dx, record.dweight, record.dbias),
        batch_norm_vjp(DY, X, weight, bias, **settings_),
        strict=True,
    ):
        assert_near(ours, expected, STEPS * np.abs(expected).max())


ERRORS = [
    (
        lambda: batch_norm(X, WEIGHT[:2], BIAS[:1], eps=-1.0),
        """\
batch_norm: `eps` must be a finite number, not negative.
  got: eps = -1.0
  fix: pass eps=1e-5.
batch_norm: `weight` must have shape (3,), one entry per channel of `x`.
  got: weight (2,) float64; x (4, 3, 2, 2) float64
  fix: pass an array of shape (3,), or None.
batch_norm: `bias` must have shape (3,), one entry per channel of `x`.
  got: bias (1,) float64; x (4, 3, 2, 2) float64
  fix: pass an array of shape (3,), or None.""",
    ),
    (
        lambda: batch_norm_vjp(DY[:2], X),
        """\
batch_norm_vjp: `dy` must have shape (4, 3, 2, 2), that of the output.
  got: dy (2, 3, 2, 2) float64; x (4, 3, 2, 2) float64
  fix: pass an array of shape (4, 3, 2, 2).""",
    ),
    (
        lambda: batch_norm(np.zeros(3)),
        """\
batch_norm: `x` must have at least 2 dimensions, batch and channels.
  got: x (3,) float64
  fix: add a dimension, as in x[:, None].""",
    ),
    (
        lambda: batch_norm_steps(X, None, None, DY, axis=4),
        """\
batch_norm_steps: `axis` must lie in [-4, 3], the dimensions of `x`.
  got: axis = 4; x (4, 3, 2, 2) float64""",
    ),
    (
        lambda: batch_norm(X, training=False),
        """\
batch_norm: `running_mean` must be given in evaluation.
  got: running_mean = None
  fix: pass it, or training=True.
batch_norm: `running_var` must be given in evaluation.
  got: running_var = None
  fix: pass it, or training=True.""",
    ),
    (
        lambda: batch_norm_vjp(DY, X, running_mean=MEAN[:2], running_var=-VAR, training=False),
        f"""\
batch_norm_vjp: `running_mean` must have shape (3,), one entry per channel of `x`.
  got: running_mean (2,) float64
  fix: pass an array of shape (3,).
batch_norm_vjp: `running_var` must not be negative.
  got: smallest {-VAR.max()}""",
    ),
    (
        lambda: batch_norm(X, mask=np.ones((4, 2, 2))),
        """\
batch_norm: `mask` must be boolean.
  got: mask (4, 2, 2) float64
  fix: pass mask.astype(bool), True where a value is real.""",
    ),
    (
        lambda: batch_norm_statistics(X, mask=np.ones((4, 3), dtype=bool)),
        """\
batch_norm_statistics: `mask` must be broadcastable to (4, 2, 2), the shape of `x` without its channels.
  got: mask (4, 3) bool""",
    ),
    (
        lambda: batch_norm(X, mask=np.ones((2, 4, 2, 2), dtype=bool)),
        """\
batch_norm: `mask` must be broadcastable to (4, 2, 2), the shape of `x` without its channels.
  got: mask (2, 4, 2, 2) bool""",
    ),
    (
        lambda: batch_norm(X, mask=~np.ones((4, 2, 2), dtype=bool)),
        """\
batch_norm: the moments need at least one valid position.
  got: none of 16 positions is valid
  fix: leave this batch out, or pass training=False.""",
    ),
    (
        lambda: batch_norm(X[:0]),
        """\
batch_norm: the moments need at least one valid position.
  got: none of 0 positions is valid
  fix: leave this batch out, or pass training=False.""",
    ),
]


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    assert str(raised.value) == text
