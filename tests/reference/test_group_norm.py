import numpy as np
import pytest

from normlab import errors
from normlab.reference import group_norm, group_norm_steps, group_norm_vjp

X = np.zeros((2, 6, 3))


@pytest.mark.parametrize("groups", [0, -1, 4, 12])
def test_groups_must_divide_the_channels(groups: int) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        group_norm(X, groups)
    assert (
        str(raised.value)
        == f"""\
group_norm: `num_groups` must divide the 6 channels of `x`.
  got: num_groups = {groups}; x (2, 6, 3) float64"""
    )


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        group_norm_vjp(X[:1], X, 4, np.zeros(4), np.zeros(6), eps=np.inf)
    assert (
        str(raised.value)
        == """\
group_norm_vjp: `eps` must be a finite number, not negative.
  got: eps = inf
  fix: pass eps=1e-5.
group_norm_vjp: `num_groups` must divide the 6 channels of `x`.
  got: num_groups = 4; x (2, 6, 3) float64
group_norm_vjp: `weight` must have shape (6,), one entry per channel of `x`.
  got: weight (4,) float64; x (2, 6, 3) float64
  fix: pass an array of shape (6,), or None.
group_norm_vjp: `dy` must have shape (2, 6, 3), that of the output.
  got: dy (1, 6, 3) float64; x (2, 6, 3) float64
  fix: pass an array of shape (2, 6, 3)."""
    )


def test_a_batch_of_numbers_has_no_channels() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        group_norm_steps(np.zeros(3), 1, None, None, np.zeros(3))
    assert (
        str(raised.value)
        == """\
group_norm_steps: `x` must have at least 2 dimensions, batch and channels.
  got: x (3,) float64
  fix: add a dimension, as in x[None]."""
    )
