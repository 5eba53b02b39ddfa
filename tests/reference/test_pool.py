import numpy as np
import pytest
from tests.reference.torch_check import assert_as_torch
from tests.tolerances import GRADIENT, TORCH
from torch.nn import functional

from normlab import errors
from normlab.reference import avg_pool, avg_pool_vjp, check_gradient, max_pool, max_pool_vjp

RNG = np.random.default_rng(0)
MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
AVG = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
CASES = [  # shape, size, stride, padding
    ((2, 3, 8), 2, None, 0),
    ((1, 1, 1), 1, None, 0),
    ((2, 3, 7), 3, 1, 1),
    ((2, 2, 6, 7), 2, None, 1),
    ((2, 2, 7, 5), (3, 2), (2, 3), (1, 0)),
    ((0, 2, 4, 4), 2, None, 0),
    ((1, 2, 4, 5, 3), (2, 3, 1), (1, 2, 1), (1, 1, 0)),
]


def named(stride, **rest) -> dict:
    return {"stride": stride, **rest} if stride else rest


@pytest.mark.parametrize(("shape", "size", "stride", "padding"), CASES)
def test_value_and_gradient_are_those_of_torch(shape, size, stride, padding) -> None:
    x = RNG.standard_normal(shape)
    how = named(stride, size=size, padding=padding)
    theirs = named(stride, kernel_size=size, padding=padding)
    dims = len(shape) - 2
    for pool, vjp, twin in ((max_pool, max_pool_vjp, MAX[dims]), (avg_pool, avg_pool_vjp, AVG[dims])):
        assert_as_torch(
            lambda x, pool=pool: pool(x, **how),
            lambda dy, x, vjp=vjp: vjp(dy, x, **how),
            lambda x, twin=twin: twin(x, **theirs),
            x,
            atol=TORCH,
        )


def test_among_equals_the_first_gets_the_gradient_as_in_torch() -> None:
    x = np.zeros((2, 1, 6, 6))
    assert_as_torch(
        lambda x: max_pool(x, size=3, stride=2, padding=1),
        lambda dy, x: max_pool_vjp(dy, x, size=3, stride=2, padding=1),
        lambda x: functional.max_pool2d(x, 3, stride=2, padding=1),
        x,
    )


def test_padding_never_wins_over_a_negative_value() -> None:
    assert max_pool(np.full((1, 1, 2), -5.0), size=2, padding=1).tolist() == [[[-5.0, -5.0]]]


@pytest.mark.parametrize(("pool", "vjp"), [(max_pool, max_pool_vjp), (avg_pool, avg_pool_vjp)])
def test_vjp_agrees_with_differences(pool, vjp) -> None:
    x = RNG.permutation(70).reshape(2, 1, 5, 7) / 10  # neighbours are 0.1 apart, far from a kink
    how = {"size": (3, 2), "stride": 2, "padding": 1}
    assert check_gradient(lambda x: pool(x, **how), lambda dy, x: vjp(dy, x, **how), x).error <= GRADIENT


def text_of(call) -> str:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    return str(raised.value)


def test_errors() -> None:
    x = np.zeros((2, 3, 4, 4))
    assert (
        text_of(lambda: max_pool(np.zeros((2, 3)), size=2))
        == """\
max_pool: `x` must have shape (N, C, *S) with 1, 2 or 3 spatial dimensions.
  got: x (2, 3) float64"""
    )
    assert (
        text_of(lambda: avg_pool(x, size=0, stride=(1, 2, 3), padding=-1))
        == """\
avg_pool: `size` must be an integer of at least 1, or 2 of them, one per spatial dimension.
  got: size = 0
avg_pool: `stride` must be an integer of at least 1, or 2 of them, one per spatial dimension.
  got: stride = (1, 2, 3)
avg_pool: `padding` must be an integer of at least 0, or 2 of them, one per spatial dimension.
  got: padding = -1"""
    )
    assert (
        text_of(lambda: max_pool(x, size=2, padding=2))
        == """\
max_pool: `padding` must be at most half the size, so that no window lies in the padding alone.
  got: padding = (2, 2); size = (2, 2)"""
    )
    assert (
        text_of(lambda: avg_pool(x, size=(2, 5)))
        == """\
avg_pool: a window must not be larger than the padded input.
  got: size = (2, 5); padding = (0, 0); x (2, 3, 4, 4) float64"""
    )
    for vjp in (max_pool_vjp, avg_pool_vjp):
        assert (
            text_of(lambda vjp=vjp: vjp(x, x, size=2))
            == f"""\
{vjp.__name__}: `dy` must have shape (2, 3, 2, 2), that of the output.
  got: dy (2, 3, 4, 4) float64; x (2, 3, 4, 4) float64
  fix: pass an array of shape (2, 3, 2, 2)."""
        )
