import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_as_torch, assert_near
from tests.tolerances import GRADIENT, TORCH
from torch.nn import functional

from normlab import errors, reference
from normlab.reference import check_gradient, leaky_relu, leaky_relu_vjp, sigmoid, sigmoid_vjp, tanh, tanh_vjp

SMOOTH = np.random.default_rng(0).uniform(0.1, 3, (5, 7)) * np.random.default_rng(1).choice([-1, 1], (5, 7))
EDGES = np.array([-0.0, 0.0, 1e-300, -1e-300, 1e300, -1e300, 40.0, -40.0, np.inf, -np.inf])
OPS = [
    ("relu", torch.relu),
    ("leaky_relu", functional.leaky_relu),
    ("tanh", torch.tanh),
    ("sigmoid", torch.sigmoid),
]


@pytest.mark.parametrize(("name", "twin"), OPS)
@pytest.mark.parametrize(
    "x", [SMOOTH, EDGES, np.zeros((0, 3)), np.array(0.5)], ids=["unit", "edges", "empty", "scalar"]
)
def test_value_and_gradient_are_those_of_torch(name: str, twin, x: np.ndarray) -> None:
    assert_as_torch(getattr(reference, name), getattr(reference, f"{name}_vjp"), twin, x)


@pytest.mark.parametrize("name", [name for name, _ in OPS])
def test_vjp_agrees_with_differences(name: str) -> None:
    assert check_gradient(getattr(reference, name), getattr(reference, f"{name}_vjp"), SMOOTH).error <= GRADIENT


def test_the_slope_of_leaky_relu() -> None:
    assert_as_torch(
        lambda x: leaky_relu(x, slope=0.2),
        lambda dy, x: leaky_relu_vjp(dy, x, slope=0.2),
        lambda x: functional.leaky_relu(x, 0.2),
        SMOOTH,
    )


def test_far_out_the_gradient_of_sigmoid_keeps_its_digits() -> None:
    """1 − sigmoid(40) is 0 in float64; the gradient there is e⁻⁴⁰, not 0."""
    (dx,) = sigmoid_vjp(np.ones(1), np.array([40.0]))
    assert_near(dx / np.exp(-40.0), np.ones(1), TORCH)
    assert sigmoid(np.array([40.0])).item() == tanh(np.array([40.0])).item() == 1.0
    assert tanh_vjp(np.ones(1), np.array([40.0]))[0].item() == 0.0


@pytest.mark.parametrize("name", [name for name, _ in OPS])
def test_dy_must_have_the_shape_of_the_output(name: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        getattr(reference, f"{name}_vjp")(np.zeros(2), np.zeros((2, 2)))
    assert (
        str(raised.value)
        == f"""\
{name}_vjp: `dy` must have shape (2, 2), that of the output.
  got: dy (2,) float64; x (2, 2) float64
  fix: pass an array of shape (2, 2)."""
    )
