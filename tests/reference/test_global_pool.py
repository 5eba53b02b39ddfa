import numpy as np
import pytest
from tests.reference.torch_check import assert_as_torch
from tests.tolerances import GRADIENT
from torch.nn import functional

from normlab import errors
from normlab.reference import check_gradient, global_avg_pool, global_avg_pool_vjp

RNG = np.random.default_rng(0)
POOLS = {1: functional.adaptive_avg_pool1d, 2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}


@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 3, 4, 5), (1, 1, 1, 1), (2, 2, 3, 2, 4)], ids=str)
def test_value_and_gradient_are_those_of_torch(shape: tuple[int, ...]) -> None:
    assert_as_torch(
        global_avg_pool,
        global_avg_pool_vjp,
        lambda x: POOLS[x.ndim - 2](x, 1).flatten(1),
        RNG.standard_normal(shape),
    )


def test_without_positions_nothing_changes() -> None:
    x = RNG.standard_normal((3, 4))
    assert np.array_equal(global_avg_pool(x), x)
    assert np.array_equal(global_avg_pool_vjp(x, x)[0], x)


def test_an_empty_batch() -> None:
    assert global_avg_pool(np.zeros((0, 3, 2, 2))).shape == (0, 3)
    assert global_avg_pool_vjp(np.zeros((0, 3)), np.zeros((0, 3, 2, 2)))[0].shape == (0, 3, 2, 2)


def test_vjp_agrees_with_differences() -> None:
    assert check_gradient(global_avg_pool, global_avg_pool_vjp, RNG.standard_normal((2, 3, 3, 2))).error <= GRADIENT


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: global_avg_pool(np.zeros((2, 3, 0))),
            """\
global_avg_pool: `x` must have shape (N, C, *S), with at least one position.
  got: x (2, 3, 0) float64""",
        ),
        (
            lambda: global_avg_pool(np.zeros(3)),
            """\
global_avg_pool: `x` must have shape (N, C, *S), with at least one position.
  got: x (3,) float64""",
        ),
        (
            lambda: global_avg_pool_vjp(np.zeros((2, 4)), np.zeros((2, 3, 5))),
            """\
global_avg_pool_vjp: `dy` must have shape (2, 3), that of the output.
  got: dy (2, 4) float64; x (2, 3, 5) float64
  fix: pass an array of shape (2, 3).""",
        ),
    ],
)
def test_errors(call, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    assert str(raised.value) == text
