"""The check itself must be able to fail."""

import numpy as np
import pytest
from tests.tolerances import GRADIENT

from normlab import errors
from normlab.reference import check_gradient, layer_norm, layer_norm_vjp, numeric_gradient, relative_error

X = np.random.default_rng(0).standard_normal((4, 7))
SIZES = [1.0, 1e-3, 1e-6]


def f(x: np.ndarray) -> np.ndarray:
    return layer_norm(x, 7)


@pytest.mark.parametrize("size", SIZES)
def test_one_wrong_element_is_found(size: float) -> None:
    """Wrong by as little as a millionth of itself, among 28."""

    def vjp(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        dx = layer_norm_vjp(dy, x, 7)[0]
        wrong = np.unravel_index(np.argmax(np.abs(dx)), dx.shape)
        dx[wrong] *= 1 + size
        touched.append(wrong)
        return (dx,)

    touched: list[tuple] = []
    check = check_gradient(f, vjp, X)
    assert check.error > GRADIENT
    assert (check.input, check.element) == (0, touched[0])
    assert check.analytic != check.numeric
    assert check.error == pytest.approx(size / (1 + size), abs=GRADIENT)


def test_the_missing_mean_term_is_found() -> None:
    """The gradient of a plain sum would be 0 on both sides, and hide it."""

    def vjp(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (layer_norm_vjp(dy, x, 7)[0] + 1e-5,)

    assert check_gradient(f, vjp, X).error > GRADIENT


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong(wrong: float) -> None:
    def vjp(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        dx = layer_norm_vjp(dy, x, 7)[0]
        dx[0, 1] = wrong
        return (dx,)

    check = check_gradient(f, vjp, X)
    assert (check.error, check.element) == (np.inf, (0, 1))


def test_the_wrong_input_is_named() -> None:
    a, b = X[0], X[1]
    check = check_gradient(lambda a, b: a * b, lambda dy, a, b: (dy * b, dy * b), a, b)
    assert check.input == 1
    assert check_gradient(lambda a, b: a * b, lambda dy, a, b: (dy * b, dy * a), a, b).error <= GRADIENT


def test_a_zero_gradient_is_right_and_anything_else_is_not() -> None:
    assert check_gradient(lambda x: 0 * x, lambda dy, x: (0 * x,), X).error == 0.0
    assert check_gradient(lambda x: 0 * x, lambda dy, x: (1e-30 + 0 * x,), X).error == 1.0


def test_empty_inputs_are_passed_over() -> None:
    check = check_gradient(lambda a, b: b**2, lambda dy, a, b: (0 * a, 2 * b * dy), np.zeros((0, 2)), X)
    assert check.input == 1
    assert check.error <= GRADIENT


def test_numeric_gradient_of_a_quartic_is_exact_but_for_rounding() -> None:
    """Differences over four points leave out no power below the fifth."""
    (dx,) = numeric_gradient(lambda x: x**4, np.ones(2), np.array([1.0, -2.0]), step=0.1)
    assert relative_error(dx, np.array([4.0, -32.0])).max() <= GRADIENT**1.5


def test_relative_error_near_zero_is_measured_by_the_largest_neighbour() -> None:
    error = relative_error(np.array([1e-12, 1.0]), np.array([0.0, 1.0]))
    assert error.tolist() == [1e-12 / 1e-3, 0.0]


def text_of(call) -> str:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    return str(raised.value)


def test_errors() -> None:
    assert (
        text_of(lambda: check_gradient(f, lambda dy, x: (x, x), X))
        == """\
check_gradient: `vjp` must return one gradient per input.
  got: 2 gradients for 1 inputs"""
    )
    assert (
        text_of(lambda: check_gradient(f, lambda dy, x: (x[0],), X))
        == """\
check_gradient: gradient 0 must have shape (4, 7), that of its input.
  got: gradient (7,) float64"""
    )
    assert (
        text_of(lambda: check_gradient(f, lambda dy, x: (None,), X))
        == """\
check_gradient: gradient 0 must have shape (4, 7), that of its input.
  got: gradient None"""
    )
    assert (
        text_of(lambda: check_gradient(f, lambda dy, x: (x,), X[:0]))
        == """\
check_gradient: there must be at least one element to check."""
    )
