import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_near
from tests.tolerances import TORCH

from normlab import errors
from normlab.reference import batch_norm_statistics, update_running


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 1.0])
def test_several_batches_are_those_of_torch(momentum: float) -> None:
    rng = np.random.default_rng(0)
    layer = torch.nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
    mean, var = np.zeros(3), np.ones(3)
    for size in (2, 7, 16):
        x = 1e3 + rng.standard_normal((size, 3, 5))
        layer(torch.tensor(x))
        mean, var = update_running(mean, var, *batch_norm_statistics(x), momentum=momentum)
    assert_near(mean, layer.running_mean, TORCH * 1e3)
    assert_near(var, layer.running_var, TORCH)


def test_one_value_updates_the_mean_and_leaves_the_variance() -> None:
    """torch refuses such a batch, so there is nothing to compare with."""
    statistics = batch_norm_statistics(np.array([[4.0]]))
    mean, var = update_running(np.zeros(1), np.array([3.0]), *statistics, momentum=0.25)
    assert (mean.item(), var.item()) == (1.0, 3.0)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        torch.nn.BatchNorm1d(1)(torch.full((1, 1), 4.0))


def test_momentum_0_never_moves_them_not_even_for_a_batch_that_is_not_finite() -> None:
    mean, var = update_running(
        np.ones(2), np.full(2, 3.0), np.array([np.nan, 1.0]), np.full(2, np.inf), 5, momentum=0.0
    )
    assert mean.tolist() == [1, 1]
    assert var.tolist() == [3, 3]


def test_the_arguments_are_left_alone() -> None:
    mean, var = np.zeros(2), np.ones(2)
    for count, momentum in ((1, 0.1), (2, 0.1), (2, 0.0)):
        new_mean, new_var = update_running(mean, var, np.ones(2), np.ones(2), count, momentum=momentum)
        new_mean[:] = new_var[:] = -1
    assert mean.tolist() == [0, 0]
    assert var.tolist() == [1, 1]


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        update_running(np.zeros(2), np.ones(3), np.zeros(2), np.ones(1), 0, momentum=1.5)
    assert (
        str(raised.value)
        == """\
update_running: `running_var` must have shape (2,), that of `running_mean`.
  got: running_var (3,) float64
  fix: pass an array of shape (2,).
update_running: `var` must have shape (2,), that of `running_mean`.
  got: var (1,) float64
  fix: pass an array of shape (2,).
update_running: `count` must be at least 1.
  got: count = 0
update_running: `momentum` must lie in [0, 1].
  got: momentum = 1.5
  fix: momentum is the weight of the new batch; keep-momentum 0.9 is momentum=0.1."""
    )
