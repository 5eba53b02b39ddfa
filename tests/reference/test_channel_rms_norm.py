"""RMS norm with one weight a channel beside RMS norm with one weight an element."""

import numpy as np
import pytest
from tests.reference.torch_check import assert_near
from tests.tolerances import TORCH

from normlab import errors
from normlab.reference import (
    channel_rms_norm,
    channel_rms_norm_steps,
    channel_rms_norm_vjp,
    rms_norm,
    rms_norm_steps,
    rms_norm_vjp,
)

RNG = np.random.default_rng(0)


def test_a_sample_worked_by_hand() -> None:
    """1, 7 in one channel and 5, 5 in the other: the mean of squares is 25; x_hat = 0.2, 1.4, 1, 1."""
    x, weight = np.array([[[1.0, 7.0], [5.0, 5.0]]]), np.array([10.0, -1.0])
    assert_near(channel_rms_norm(x, weight, eps=0.0), np.array([[[2.0, 14.0], [-1.0, -1.0]]]), TORCH)
    # dy = 1 at the last place: g = −1 there, Σ g·x_hat / 4 = −¼, and dx = ⅕ · (g + ¼ · x_hat).
    dx, dweight = channel_rms_norm_vjp(np.array([[[0.0, 0.0], [0.0, 1.0]]]), x, weight, eps=0.0)
    assert_near(dx, np.array([[[0.01, 0.07], [0.05, -0.15]]]), TORCH)
    assert_near(dweight, np.array([0.0, 1.0]), TORCH)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2), (2, 4, 3, 2)], ids=str)
def test_it_is_rms_norm_whose_weights_of_a_channel_are_equal(shape: tuple[int, ...]) -> None:
    x, dy = RNG.standard_normal((2, *shape))
    weight = RNG.standard_normal(4)
    last, how = shape[1:], {"eps": 1e-3}
    spread = np.broadcast_to(weight.reshape(4, *(1,) * (len(shape) - 2)), last)
    assert_near(channel_rms_norm(x, weight, **how), rms_norm(x, last, spread, **how), TORCH)
    (dx, dweight), expected = (
        channel_rms_norm_vjp(dy, x, weight, **how),
        rms_norm_vjp(dy, x, last, spread, **how),
    )
    assert_near(dx, expected[0], TORCH)
    assert_near(dweight, expected[1].reshape(4, -1).sum(axis=1), TORCH)
    ours = channel_rms_norm_steps(x, weight, dy, **how)
    for step, twin in zip(ours.steps, rms_norm_steps(x, last, spread, dy, **how).steps, strict=True):
        assert (step.name, step.equation) == (twin.name, twin.equation)
        assert_near(step.value.ravel(), twin.value.ravel(), TORCH)
        assert_near(step.gradient.ravel(), twin.gradient.ravel(), TORCH)


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        channel_rms_norm_vjp(np.zeros(3), np.zeros((2, 3)), np.zeros(2), eps=-1.0)
    assert (
        str(raised.value)
        == """\
channel_rms_norm_vjp: `eps` must be a finite number, not negative.
  got: eps = -1.0
  fix: pass eps=1e-5.
channel_rms_norm_vjp: `weight` must have shape (3,), one entry per channel of `x`.
  got: weight (2,) float64; x (2, 3) float64
  fix: pass an array of shape (3,), or None.
channel_rms_norm_vjp: `dy` must have shape (2, 3), that of the output.
  got: dy (3,) float64; x (2, 3) float64
  fix: pass an array of shape (2, 3)."""
    )
