import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_as_torch
from tests.tolerances import GRADIENT, TORCH
from torch.nn import functional

from normlab import errors
from normlab.reference import (
    check_gradient,
    hinge,
    hinge_vjp,
    mean_squared_error,
    mean_squared_error_vjp,
    softmax_cross_entropy,
    softmax_cross_entropy_vjp,
)

RNG = np.random.default_rng(0)
SHAPES = [(1, 1), (1, 2), (7, 5), (16, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_softmax_cross_entropy_is_that_of_torch(shape: tuple[int, int], scale: float) -> None:
    labels = RNG.integers(0, shape[1], shape[0])
    assert_as_torch(
        lambda x: softmax_cross_entropy(x, labels),
        lambda dy, x: softmax_cross_entropy_vjp(float(dy), x, labels),
        lambda x: functional.cross_entropy(x, torch.tensor(labels)),
        scale * RNG.standard_normal(shape),
        atol=TORCH * scale,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("margin", [1.0, 0.5])
def test_hinge_is_that_of_torch_times_the_classes(shape: tuple[int, int], margin: float) -> None:
    labels = RNG.integers(0, shape[1], shape[0])
    assert_as_torch(
        lambda x: hinge(x, labels, margin=margin),
        lambda dy, x: hinge_vjp(float(dy), x, labels, margin=margin),
        lambda x: shape[1] * functional.multi_margin_loss(x, torch.tensor(labels), margin=margin),
        RNG.standard_normal(shape),
    )


@pytest.mark.parametrize("shape", [(1,), (5, 3), ()], ids=str)
def test_mean_squared_error_is_that_of_torch(shape: tuple[int, ...]) -> None:
    x, target = RNG.standard_normal((2, *shape))
    assert_as_torch(
        mean_squared_error,
        lambda dy, *a: mean_squared_error_vjp(float(dy), *a),
        functional.mse_loss,
        np.asarray(x),
        np.asarray(target),
    )


def test_vjps_agree_with_differences() -> None:
    labels = np.array([0, 2, 1, 1])
    scores = RNG.permutation(12).reshape(4, 3) / 4 + 0.1  # no lead is nearer than 0.25 to the kink at the margin
    for f, vjp in ((softmax_cross_entropy, softmax_cross_entropy_vjp), (hinge, hinge_vjp)):
        how = {"margin": 0.9} if f is hinge else {}
        check = check_gradient(
            lambda x, f=f, how=how: f(x, labels, **how),
            lambda dy, x, vjp=vjp, how=how: vjp(float(dy), x, labels, **how),
            scores,
        )
        assert check.error <= GRADIENT, f.__name__
    x, target = RNG.standard_normal((2, 3, 2))
    check = check_gradient(mean_squared_error, lambda dy, *a: mean_squared_error_vjp(float(dy), *a), x, target)
    assert check.error <= GRADIENT


def text_of(call) -> str:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    return str(raised.value)


@pytest.mark.parametrize(("f", "name"), [(softmax_cross_entropy, "logits"), (hinge, "scores")])
def test_labels_must_fit(f, name: str) -> None:
    x, where = np.zeros((2, 3)), f.__name__
    assert (
        text_of(lambda: f(x, np.array([0, 3])))
        == f"""\
{where}: `labels` must lie in [0, 3), the classes of `{name}`.
  got: labels from 0 to 3"""
    )
    assert (
        text_of(lambda: f(x, np.array([-1, 0])))
        == f"""\
{where}: `labels` must lie in [0, 3), the classes of `{name}`.
  got: labels from -1 to 0"""
    )
    assert (
        text_of(lambda: f(x, np.array([0, 1, 2])))
        == f"""\
{where}: `labels` must be one integer per row of `{name}`.
  got: labels (3,) int64; {name} (2, 3) float64"""
    )
    assert (
        text_of(lambda: f(x, np.array([0.0, 1.0])))
        == f"""\
{where}: `labels` must be one integer per row of `{name}`.
  got: labels (2,) float64; {name} (2, 3) float64"""
    )
    assert (
        text_of(lambda: f(np.zeros((0, 3)), np.array([], dtype=int)))
        == f"""\
{where}: `{name}` must have shape (N, K), at least one row and one class.
  got: {name} (0, 3) float64"""
    )
    assert (
        text_of(lambda: f(np.zeros(3), np.array([0])))
        == f"""\
{where}: `{name}` must have shape (N, K), at least one row and one class.
  got: {name} (3,) float64
{where}: `labels` must be one integer per row of `{name}`.
  got: labels (1,) int64; {name} (3,) float64"""
    )


def test_mean_squared_error_broadcasts_nothing() -> None:
    assert (
        text_of(lambda: mean_squared_error(np.zeros((2, 1)), np.zeros(2)))
        == """\
mean_squared_error: `target` must have shape (2, 1), that of `x`.
  got: target (2,) float64; x (2, 1) float64
  fix: pass an array of shape (2, 1)."""
    )
    assert (
        text_of(lambda: mean_squared_error_vjp(1.0, np.zeros(0), np.zeros(0)))
        == """\
mean_squared_error_vjp: `x` must have at least one element.
  got: x (0,) float64"""
    )
