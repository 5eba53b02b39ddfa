"""Ghost batch norm: torch's batch norm on one part after the other, statistics and all."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.reference.torch_check import assert_near
from tests.tolerances import GRADIENT, TORCH

from normlab import errors
from normlab.reference import (
    batch_norm,
    batch_norm_statistics,
    batch_norm_vjp,
    check_gradient,
    ghost_batch_norm,
    ghost_batch_norm_statistics,
    ghost_batch_norm_vjp,
    ghost_batches,
    instance_norm,
    instance_norm_vjp,
    merge_moments,
    update_running,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 3, 2, 2))
DY = RNG.standard_normal(X.shape)
WEIGHT, BIAS = RNG.standard_normal((2, 3))
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None, derandomize=True)


def assert_all_near(actual: tuple, expected: tuple, atol: float = TORCH) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert_near(a, b, atol)


def test_two_ghost_batches_worked_by_hand() -> None:
    """1, 2, 3, 6 are −1, −½, 0, 1½ with eps ½ (test_batch_norm.py); 10 and 11 have variance ¼ and eps ½: ∓½ / √¾."""
    x, weight, bias = np.array([[1.0], [2.0], [3.0], [6.0], [10.0], [11.0]]), np.array([4.0]), np.array([10.0])
    y = ghost_batch_norm(x, weight, bias, virtual_batch=4, eps=0.5)
    half = 2 / np.sqrt(0.75)
    assert_near(y.ravel(), np.array([6.0, 8.0, 10.0, 16.0, 10 - half, 10 + half]), TORCH)
    # dx of the first four as in test_batch_norm.py, and none from them to the others
    dy = np.array([[1.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    dx, dweight, dbias = ghost_batch_norm_vjp(dy, x, weight, bias, virtual_batch=4, eps=0.5)
    assert_near(dx.ravel(), np.array([1.0, -0.75, -0.5, 0.25, 0.0, 0.0]), 0.0)
    assert_near(dweight, np.array([-1.0]), 0.0)
    assert_near(dbias, np.array([1.0]), 0.0)


@pytest.mark.parametrize(
    ("batch", "positions", "virtual_batch", "sizes"),
    [
        (6, 1, 2, [2, 2, 2]),
        (7, 1, 2, [2, 2, 3]),  # one value a channel is left: it joins
        (7, 4, 2, [2, 2, 2, 1]),  # four are
        (8, 1, 3, [3, 3, 2]),
        (3, 1, 5, [3]),
        (1, 1, 5, [1]),  # there is none before it
        (3, 1, 1, [1, 1, 1]),  # as asked for
        (5, 5, 5, [5]),
        (6, 1, 5, [6]),
    ],
)
def test_where_the_cuts_are(batch: int, positions: int, virtual_batch: int, sizes: list[int]) -> None:
    parts = ghost_batches(batch, positions, virtual_batch)
    assert [part.stop - part.start for part in parts] == sizes
    assert [n for part in parts for n in range(part.start, part.stop)] == list(range(batch))


@pytest.mark.parametrize("mean", [0.0, 1e6])
@pytest.mark.parametrize(("shape", "sizes"), [((7, 3, 2, 2), [3, 3, 1]), ((8, 3), [3, 3, 2]), ((7, 3), [3, 4])])
def test_it_is_torch_on_one_part_after_the_other(shape: tuple[int, ...], sizes: list[int], mean: float) -> None:
    """Running statistics too, which take a step for each. Rounding is of the size of the mean."""
    x, dy = mean + RNG.standard_normal(shape), RNG.standard_normal(shape)
    layer = torch.nn.BatchNorm2d(3) if len(shape) == 4 else torch.nn.BatchNorm1d(3)
    layer = layer.double()
    layer.weight.data, layer.bias.data = torch.tensor(WEIGHT), torch.tensor(BIAS)
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.cat([layer(part) for part in leaf.split(sizes)])
    expected.backward(torch.tensor(dy))

    atol = TORCH * max(1.0, mean)
    assert_near(ghost_batch_norm(x, WEIGHT, BIAS, virtual_batch=3), expected.detach(), atol)
    found = ghost_batch_norm_vjp(dy, x, WEIGHT, BIAS, virtual_batch=3)
    assert_all_near(found, (leaf.grad, layer.weight.grad, layer.bias.grad), atol)
    running = np.zeros(3), np.ones(3)
    for statistics in ghost_batch_norm_statistics(x, virtual_batch=3):
        running = update_running(*running, *statistics)
    assert_all_near(running, (layer.running_mean, layer.running_var), atol)


def test_the_vjp_agrees_with_differences() -> None:
    check = check_gradient(
        lambda *a: ghost_batch_norm(*a, virtual_batch=3),
        lambda *a: ghost_batch_norm_vjp(*a, virtual_batch=3),
        X,
        WEIGHT,
        BIAS,
    )
    assert check.error <= GRADIENT


@quick
@given(seed=seeds, batch=st.integers(1, 6), more=st.integers(0, 3), masked=st.booleans())
def test_a_virtual_batch_of_all_is_batch_norm_bit_for_bit(seed: int, batch: int, more: int, masked: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (batch, 2, 3)
    x, dy, weight, bias = (rng.standard_normal(s) for s in (shape, shape, 2, 2))
    mask = rng.random((batch, 3)) < 0.7 if masked else None
    if mask is not None:
        mask[0, 0] = True
    how = {"virtual_batch": batch + more, "mask": mask}
    assert np.array_equal(ghost_batch_norm(x, weight, bias, **how), batch_norm(x, weight, bias, mask=mask))
    found = ghost_batch_norm_vjp(dy, x, weight, bias, **how)
    for ours, expected in zip(found, batch_norm_vjp(dy, x, weight, bias, mask=mask), strict=True):
        assert np.array_equal(ours, expected)
    (statistics,) = ghost_batch_norm_statistics(x, **how)
    for ours, expected in zip(statistics, batch_norm_statistics(x, mask=mask), strict=True):
        assert np.array_equal(ours, expected)


@quick
@given(seed=seeds, masked=st.booleans())
def test_a_virtual_batch_of_one_is_instance_norm(seed: int, masked: bool) -> None:
    """A sample without a valid position included."""
    rng = np.random.default_rng(seed)
    x, dy, weight, bias = (rng.standard_normal(s) for s in ((4, 2, 5), (4, 2, 5), 2, 2))
    mask = rng.random((4, 5)) < np.array([[1.0], [0.7], [0.7], [0.0]]) if masked else None
    y = ghost_batch_norm(x, weight, bias, virtual_batch=1, mask=mask)
    assert_near(y, instance_norm(x, weight, bias, mask=mask), TORCH)
    expected = instance_norm_vjp(dy, x, weight, bias, mask=mask)
    size = max(1.0, *(np.abs(e).max() for e in expected))
    assert_all_near(ghost_batch_norm_vjp(dy, x, weight, bias, virtual_batch=1, mask=mask), expected, TORCH * size)


@quick
@given(seed=seeds, virtual_batch=st.integers(1, 9))
def test_statistics_of_the_ghost_batches_merge_into_those_of_the_batch(seed: int, virtual_batch: int) -> None:
    rng = np.random.default_rng(seed)
    x, mask = 3 + rng.standard_normal((8, 2, 3)), rng.random((8, 3)) < 0.6
    mask[0, 0] = True
    merged = np.zeros(2), np.zeros(2), 0
    for statistics in ghost_batch_norm_statistics(x, virtual_batch=virtual_batch, mask=mask):
        merged = merge_moments(*merged, *statistics)
    assert_all_near(merged, batch_norm_statistics(x, mask=mask))


@pytest.mark.parametrize("junk", [0.5, np.nan, np.inf, -1e200])
def test_each_ghost_batch_has_its_part_of_the_mask(junk: float) -> None:
    """The second has no valid position: bias, no gradient, nothing to commit."""
    mask = RNG.random((7, 2, 2)) < 0.6
    mask[3:6] = False
    real = np.broadcast_to(mask[:, None], X.shape)
    x = np.where(real, X, junk)
    y = ghost_batch_norm(x, WEIGHT, BIAS, virtual_batch=3, mask=mask)
    dx, dweight, dbias = ghost_batch_norm_vjp(DY, x, WEIGHT, BIAS, virtual_batch=3, mask=mask)
    statistics = ghost_batch_norm_statistics(x, virtual_batch=3, mask=mask)
    assert len(statistics) == 2
    alone = []
    for rows, found in ((slice(0, 3), statistics[0]), (slice(6, 7), statistics[1])):
        part = {"mask": mask[rows]}
        assert_near(y[rows], batch_norm(x[rows], WEIGHT, BIAS, **part), 0.0)
        alone.append(batch_norm_vjp(DY[rows], x[rows], WEIGHT, BIAS, **part))
        assert_near(dx[rows], alone[-1][0], 0.0)
        assert_all_near(found, batch_norm_statistics(X[rows], **part))
    assert np.array_equal(y[3:6], np.broadcast_to(BIAS[:, None, None] if junk == 0.5 else 0.0, (3, 3, 2, 2)))
    assert not dx[3:6].any()
    assert_near(dweight, alone[0][1] + alone[1][1], TORCH)
    # the bias has come out there, so it has its gradient, as at any padding that is no junk
    assert_near(dbias, alone[0][2] + alone[1][2] + (DY[3:6].sum(axis=(0, 2, 3)) if junk == 0.5 else 0.0), TORCH)


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_channels_may_stand_on_any_axis(axis: int) -> None:
    """The batch is the first of the other axes."""
    mask = RNG.random((7, 2, 2)) < 0.8
    x, dy = np.moveaxis(X, 1, axis), np.moveaxis(DY, 1, axis)
    how = {"virtual_batch": 3, "mask": mask}
    y = ghost_batch_norm(x, WEIGHT, BIAS, axis=axis, **how)
    assert_near(np.moveaxis(y, axis, 1), ghost_batch_norm(X, WEIGHT, BIAS, **how), TORCH)
    dx, *of_parameters = ghost_batch_norm_vjp(dy, x, WEIGHT, BIAS, axis=axis, **how)
    expected_dx, *expected = ghost_batch_norm_vjp(DY, X, WEIGHT, BIAS, **how)
    assert_all_near((np.moveaxis(dx, axis, 1), *of_parameters), (expected_dx, *expected))
    for ours, theirs in zip(
        ghost_batch_norm_statistics(x, axis=axis, **how), ghost_batch_norm_statistics(X, **how), strict=True
    ):
        assert_all_near(ours, theirs)


def test_evaluation_is_that_of_batch_norm() -> None:
    how = {"running_mean": BIAS, "running_var": np.array([0.5, 1.0, 2.0]), "training": False}
    y = ghost_batch_norm(X, WEIGHT, BIAS, virtual_batch=2, **how)
    assert np.array_equal(y, batch_norm(X, WEIGHT, BIAS, **how))
    found = ghost_batch_norm_vjp(DY, X, WEIGHT, BIAS, virtual_batch=2, **how)
    for ours, expected in zip(found, batch_norm_vjp(DY, X, WEIGHT, BIAS, **how), strict=True):
        assert np.array_equal(ours, expected)


def test_without_parameters_their_gradients_are_none() -> None:
    assert ghost_batch_norm_vjp(DY, X, virtual_batch=2)[1:] == (None, None)


ERRORS = [
    (
        lambda: ghost_batch_norm(X, WEIGHT[:2], virtual_batch=0),
        """\
ghost_batch_norm: `virtual_batch` must be at least 1.
  got: virtual_batch = 0
  fix: pass the number of samples that are to be normalized together.
ghost_batch_norm: `weight` must have shape (3,), one entry per channel of `x`.
  got: weight (2,) float64; x (7, 3, 2, 2) float64
  fix: pass an array of shape (3,), or None.""",
    ),
    (
        lambda: ghost_batch_norm_statistics(X, virtual_batch=2, mask=np.zeros((7, 2, 2), dtype=bool)),
        """\
ghost_batch_norm_statistics: the moments need at least one valid position.
  got: none of 28 positions is valid
  fix: leave this batch out, or pass training=False.""",
    ),
    (
        lambda: ghost_batch_norm_vjp(DY, X, virtual_batch=2, running_var=WEIGHT**2, training=False),
        """\
ghost_batch_norm_vjp: `running_mean` must be given in evaluation.
  got: running_mean = None
  fix: pass it, or training=True.""",
    ),
]


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    assert str(raised.value) == text
