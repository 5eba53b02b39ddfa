"""Batch renormalization, against the reference."""

import copy
import pickle

import numpy as np
import pytest
import torch
from tests.layers.oracle import close, learned, passed, random, statistics
from tests.tolerances import TORCH
from torch import nn

from normlab import layers, reference
from normlab.errors import InvalidInputError


def expected(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor, **how: object) -> list[np.ndarray]:
    """With the running statistics as they are before the batch."""
    running = {"running_mean": layer.running_mean.numpy(), "running_var": layer.running_var.numpy()}
    weights = [each.detach().numpy() for each in layer.parameters()]
    y = reference.batch_renorm(x.numpy(), *weights, **running, **how)
    found = reference.batch_renorm_vjp(dy.numpy(), x.numpy(), *weights, **running, **how)
    return [y, *(each for each in found if each is not None)]


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("mean", [0.0, 1e3], ids=["unit", "large mean"])
def test_against_the_reference(masked: bool, affine: bool, mean: float) -> None:
    """Several steps, in which r and d are clipped and are not; then evaluation."""
    layer = layers.BatchRenorm1d(3, r_max=1.5, d_max=0.4, schedule=(0, 0, 0), affine=affine).double()
    layer = learned(layer)
    layer.running_mean.add_(mean)
    mask = random(5, 4, seed=8) > -0.5 if masked else None
    how = {"r_max": 1.5, "d_max": 0.4, "mask": None if mask is None else mask.numpy()}
    for seed in range(4):
        x, dy = random(5, 3, 4, seed=seed, mean=mean), random(5, 3, 4, seed=seed + 50)
        theirs = expected(layer, x, dy, **how)
        running = layer.running_mean.numpy(), layer.running_var.numpy()
        batch = reference.batch_norm_statistics(x.numpy(), mask=how["mask"])
        running = reference.update_running(*running, *batch)
        for mine, each in zip(passed(layer, x, dy, mask=mask), theirs, strict=True):
            close(mine, each, tolerance_at(mean))
        for mine, each in zip((layer.running_mean, layer.running_var), running, strict=True):
            close(mine, each)
    layer.eval()
    theirs = expected(layer, x, dy, **how, training=False)
    for mine, each in zip(passed(layer, x, dy, mask=mask), theirs, strict=True):
        close(mine, each, tolerance_at(mean))


def tolerance_at(mean: float) -> float:
    """Numbers so many times their deviation have lost as many digits."""
    return TORCH * max(1.0, mean)


@pytest.mark.parametrize("r_max", [1.0, 3.0, float("inf")])
@pytest.mark.parametrize("d_max", [0.0, 5.0, float("inf")])
def test_bounds_of_any_size(r_max: float, d_max: float) -> None:
    layer = layers.BatchRenorm2d(3, r_max=r_max, d_max=d_max, schedule=(0, 0, 0)).double()
    x, dy = 4 * random(2, 3, 4, 4, mean=2.0), random(2, 3, 4, 4, seed=1)
    theirs = expected(layer, x, dy, r_max=r_max, d_max=d_max)
    found = passed(layer, x, dy)
    for mine, each in zip(found, theirs, strict=True):
        close(mine, each)
    if r_max == 1 and d_max == 0:
        close(found[0], nn.BatchNorm2d(3).double()(x))
    if r_max == d_max == float("inf"):
        close(found[0], nn.BatchNorm2d(3).double().eval()(x))


def test_the_schedule() -> None:
    """Plain until the first, then in a straight line up to each bound."""
    layer = layers.BatchRenorm1d(1, r_max=3.0, d_max=5.0, schedule=(10, 30, 20))
    for commits, r_max, d_max in ((0, 1, 0), (10, 1, 0), (15, 1.5, 2.5), (20, 2, 5), (30, 3, 5), (99, 3, 5)):
        layer.num_batches_tracked.fill_(commits)
        assert [float(each) for each in layer.bounds()] == [r_max, d_max]
    unbounded = layers.BatchRenorm1d(1, r_max=float("inf"), d_max=float("inf"), schedule=(10, 30, 20))
    assert [float(each) for each in unbounded.bounds()] == [1.0, 0.0]
    unbounded.num_batches_tracked.fill_(11)
    assert [float(each) for each in unbounded.bounds()] == [float("inf")] * 2
    at_once = layers.BatchRenorm1d(1, schedule=(2, 2, 2))
    for commits, r_max in ((1, 1), (2, 3)):
        at_once.num_batches_tracked.fill_(commits)
        assert float(at_once.bounds()[0]) == r_max


def test_as_batch_norm_at_first() -> None:
    layer, stock = layers.BatchRenorm1d(3).double(), nn.BatchNorm1d(3).double()
    x, dy = random(6, 3, mean=9.0), random(6, 3, seed=1)
    for mine, theirs in zip(passed(layer, x, dy), passed(stock, x, dy), strict=True):
        close(mine, theirs)
    close(layer.running_var, stock.running_var)


def test_its_state_is_that_of_batch_norm() -> None:
    layer, stock = layers.BatchRenorm1d(3), nn.BatchNorm1d(3)
    layer(random(6, 3, dtype=torch.float32))
    stock.load_state_dict(layer.state_dict())
    layers.BatchRenorm1d(3).load_state_dict(stock.state_dict())
    assert isinstance(layer, nn.BatchNorm1d)
    assert repr(layer) == (
        "BatchRenorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True, "
        "r_max=3.0, d_max=5.0, schedule=(5000, 40000, 25000))"
    )
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  # our own bytes
        assert (other.r_max, other.d_max, other.schedule) == (layer.r_max, layer.d_max, layer.schedule)
        assert statistics(other).keys() == statistics(layer).keys()
        assert torch.equal(other(torch.eye(3)), layer(torch.eye(3)))


def test_with_parameters_of_16_bits() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        layer = layers.BatchRenorm1d(3, schedule=(0, 0, 0)).to(dtype)
        y = layer(random(6, 3, dtype=dtype))
        assert y.dtype == dtype
        assert layer.running_var.dtype == torch.float32


def test_what_is_refused() -> None:
    with pytest.raises(InvalidInputError) as raised:
        layers.BatchRenorm1d(3, r_max=float("nan"), d_max=-1.0, schedule=(5, 3, 9), track_running_stats=False)
    assert str(raised.value) == (
        "BatchRenorm1d: `r_max` must be at least 1.\n"
        "  got: r_max = nan\n"
        "BatchRenorm1d: `d_max` must be at least 0.\n"
        "  got: d_max = -1.0\n"
        "BatchRenorm1d: `schedule` must be three numbers of commits, the first of them the smallest.\n"
        "  got: schedule = (5, 3, 9)\n"
        "BatchRenorm1d: `track_running_stats` must be True: they are what it is drawn to."
    )
