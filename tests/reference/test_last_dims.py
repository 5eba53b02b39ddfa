"""Layer norm and RMS norm: what they ask of their arguments, and torch's default eps."""

import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_as_torch, assert_near
from tests.tolerances import TORCH
from torch.nn import functional

from normlab import errors
from normlab.reference import (
    layer_norm,
    layer_norm_steps,
    layer_norm_vjp,
    rms_norm,
    rms_norm_steps,
    rms_norm_vjp,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 5, 4))
WEIGHT, BIAS = RNG.standard_normal((2, 4))


@pytest.mark.parametrize("shape", [(4,), (5, 4), (3, 5, 4), (2, 3, 5, 4)], ids=str)
def test_any_number_of_last_dimensions(shape: tuple[int, ...]) -> None:
    weight, bias = RNG.standard_normal((2, *shape))
    assert_as_torch(
        lambda x, w, b: layer_norm(x, shape, w, b),
        lambda dy, x, w, b: layer_norm_vjp(dy, x, shape, w, b),
        lambda x, w, b: functional.layer_norm(x, shape, w, b),
        X,
        weight,
        bias,
    )


def test_an_integer_is_one_dimension() -> None:
    assert_near(layer_norm(X, 4, WEIGHT, BIAS), layer_norm(X, (4,), WEIGHT, BIAS), 0.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rms_norm_has_by_default_the_eps_of_the_dtype(dtype: type) -> None:
    """Values so small that eps is all that counts: the eps of float32 and of float64 differ by 10⁹."""
    x = (1e-9 * X).astype(dtype)
    eps = torch.finfo(torch.from_numpy(x).dtype).eps
    expected = functional.rms_norm(torch.tensor(x, dtype=torch.float64), (4,), eps=eps)
    assert_near(rms_norm(x, 4), expected, TORCH)
    assert_near(rms_norm_vjp(X, x, 4)[0], rms_norm_vjp(X, x, 4, eps=eps)[0], 0.0)
    assert_near(rms_norm_steps(x, 4, None, X).steps[-1].value, expected, TORCH)


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        layer_norm_steps(X, (3, 4), WEIGHT, BIAS, X[0], eps=np.nan)
    assert (
        str(raised.value)
        == """\
layer_norm_steps: `eps` must be a finite number, not negative.
  got: eps = nan
  fix: pass eps=1e-5.
layer_norm_steps: `normalized_shape` must be the last dimensions of `x`, at least one.
  got: normalized_shape = (3, 4); x (2, 3, 5, 4) float64
  fix: pass normalized_shape=(3, 5, 4).
layer_norm_steps: `weight` must have shape (3, 4), equal to `normalized_shape`.
  got: weight (4,) float64; x (2, 3, 5, 4) float64
  fix: pass an array of shape (3, 4), or None.
layer_norm_steps: `bias` must have shape (3, 4), equal to `normalized_shape`.
  got: bias (4,) float64; x (2, 3, 5, 4) float64
  fix: pass an array of shape (3, 4), or None.
layer_norm_steps: `dy` must have shape (2, 3, 5, 4), that of the output.
  got: dy (3, 5, 4) float64; x (2, 3, 5, 4) float64
  fix: pass an array of shape (2, 3, 5, 4)."""
    )


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 5, 4)], ids=str)
def test_rms_norm_asks_the_same(shape: tuple[int, ...]) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        rms_norm(X, shape)
    assert (
        str(raised.value)
        == f"""\
rms_norm: `normalized_shape` must be the last dimensions of `x`, at least one.
  got: normalized_shape = {shape}; x (2, 3, 5, 4) float64
  fix: pass normalized_shape=(3, 5, 4)."""
    )
