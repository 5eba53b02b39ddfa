import numpy as np
import pytest
from tests.reference.torch_check import assert_as_torch
from tests.tolerances import GRADIENT
from torch.nn import functional

from normlab import errors
from normlab.reference import check_gradient, linear, linear_vjp

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.standard_normal((3, 5)), RNG.standard_normal(3)


@pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3), (0,), (2, 0)], ids=str)
def test_value_and_gradients_are_those_of_torch(batch: tuple[int, ...]) -> None:
    x = RNG.standard_normal((*batch, 5))
    assert_as_torch(linear, linear_vjp, functional.linear, x, WEIGHT, BIAS)
    assert_as_torch(linear, lambda *a: linear_vjp(*a)[:2], functional.linear, x, WEIGHT)
    assert linear_vjp(linear(x, WEIGHT), x, WEIGHT)[2] is None


def test_vjp_agrees_with_differences() -> None:
    assert check_gradient(linear, linear_vjp, RNG.standard_normal((2, 3, 5)), WEIGHT, BIAS).error <= GRADIENT


def test_weight_must_fit() -> None:
    for weight in (WEIGHT.T, BIAS):
        with pytest.raises(errors.InvalidInputError) as raised:
            linear(np.zeros((2, 5)), weight)
        assert (
            str(raised.value)
            == f"""\
linear: `weight` must have shape (O, D), D being the last dimension of `x`.
  got: weight {weight.shape} float64; x (2, 5) float64"""
        )


def test_bias_and_dy_must_fit() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        linear_vjp(np.zeros((2, 5)), np.zeros((2, 5)), WEIGHT, np.zeros(5))
    assert (
        str(raised.value)
        == """\
linear_vjp: `bias` must have shape (3,), one entry per row of `weight`.
  got: bias (5,) float64; x (2, 5) float64
  fix: pass an array of shape (3,).
linear_vjp: `dy` must have shape (2, 3), that of the output.
  got: dy (2, 5) float64; x (2, 5) float64
  fix: pass an array of shape (2, 3)."""
    )
