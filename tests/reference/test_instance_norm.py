import numpy as np
import pytest

from normlab import errors
from normlab.reference import instance_norm, instance_norm_steps, instance_norm_vjp


def test_there_must_be_positions() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        instance_norm(np.zeros((4, 3)))
    assert (
        str(raised.value)
        == """\
instance_norm: `x` must have at least 3 dimensions: batch, channels and positions.
  got: x (4, 3) float64
  fix: add a dimension, as in x[None]."""
    )


def test_all_problems_are_raised_at_once() -> None:
    x = np.zeros((2, 3, 4))
    text = """\
{where}: `weight` must have shape (3,), one entry per channel of `x`.
  got: weight (4,) float64; x (2, 3, 4) float64
  fix: pass an array of shape (3,), or None.
{where}: `dy` must have shape (2, 3, 4), that of the output.
  got: dy (2, 3) float64; x (2, 3, 4) float64
  fix: pass an array of shape (2, 3, 4)."""
    with pytest.raises(errors.InvalidInputError) as raised:
        instance_norm_vjp(np.zeros((2, 3)), x, np.zeros(4))
    assert str(raised.value) == text.format(where="instance_norm_vjp")
    with pytest.raises(errors.InvalidInputError) as raised:
        instance_norm_steps(x, np.zeros(4), None, np.zeros((2, 3)))
    assert str(raised.value) == text.format(where="instance_norm_steps")
