import numpy as np
import pytest
from tests.reference.torch_check import assert_as_torch
from tests.tolerances import GRADIENT
from torch.nn import functional

from normlab import errors
from normlab.reference import check_gradient, conv, conv_vjp

RNG = np.random.default_rng(0)
TWINS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
CASES = [  # x, weight, stride, padding; with positions that no window reaches, and windows that lie in the padding
    ((2, 3, 8), (4, 3, 3), 1, 0),
    ((1, 1, 1), (1, 1, 1), 1, 0),
    ((2, 2, 7), (3, 2, 2), 3, 1),
    ((2, 3, 5, 6), (2, 3, 3, 2), 1, 1),
    ((2, 1, 9, 7), (5, 1, 2, 3), (2, 3), (0, 4)),
    ((0, 2, 5, 5), (3, 2, 3, 3), 1, 0),
    ((2, 2, 4, 3, 5), (3, 2, 2, 3, 2), (2, 1, 2), (1, 1, 0)),
]


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), CASES)
def test_value_and_gradients_are_those_of_torch(shape, kernel, stride, padding) -> None:
    x, weight, bias = RNG.standard_normal(shape), RNG.standard_normal(kernel), RNG.standard_normal(kernel[0])
    how = {"stride": stride, "padding": padding}
    twin = TWINS[len(kernel) - 2]
    assert_as_torch(
        lambda *a: conv(*a, **how),
        lambda *a: conv_vjp(*a, **how),
        lambda *a: twin(*a, **how),
        x,
        weight,
        bias,
    )
    assert_as_torch(
        lambda *a: conv(*a, **how), lambda *a: conv_vjp(*a, **how)[:2], lambda *a: twin(*a, **how), x, weight
    )
    assert conv_vjp(conv(x, weight, **how), x, weight, **how)[2] is None


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), [CASES[2], ((1, 2, 4, 3), (2, 2, 2, 2), 2, 1)])
def test_vjp_agrees_with_differences(shape, kernel, stride, padding) -> None:
    x, weight, bias = RNG.standard_normal(shape), RNG.standard_normal(kernel), RNG.standard_normal(kernel[0])
    how = {"stride": stride, "padding": padding}
    check = check_gradient(lambda *a: conv(*a, **how), lambda *a: conv_vjp(*a, **how), x, weight, bias)
    assert check.error <= GRADIENT


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((2, 3), (4, 3)), ((2, 3, 8), (4, 2, 3)), ((2, 3, 8, 8), (4, 3, 3)), ((1,) * 6, (1,) * 6)],
)
def test_weight_must_fit(shape: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        conv(np.zeros(shape), np.zeros(kernel))
    assert (
        str(raised.value)
        == f"""\
conv: `weight` must have shape (O, C, *K) and `x` (N, C, *S), with 1, 2 or 3 spatial dimensions.
  got: weight {kernel} float64; x {shape} float64"""
    )


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        conv_vjp(
            np.zeros((2, 4, 5, 5)),
            np.zeros((2, 3, 8, 8)),
            np.zeros((4, 3, 3, 3)),
            np.zeros(3),
            stride=0,
            padding=(1,),
        )
    assert (
        str(raised.value)
        == """\
conv_vjp: `stride` must be an integer of at least 1, or 2 of them, one per spatial dimension.
  got: stride = 0
conv_vjp: `padding` must be an integer of at least 0, or 2 of them, one per spatial dimension.
  got: padding = (1,)
conv_vjp: `bias` must have shape (4,), one entry per output channel.
  got: bias (3,) float64; x (2, 3, 8, 8) float64
  fix: pass an array of shape (4,)."""
    )


def test_dy_must_have_the_shape_of_the_output() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        conv_vjp(np.zeros((2, 4, 8)), np.zeros((2, 3, 8)), np.zeros((4, 3, 3)))
    assert (
        str(raised.value)
        == """\
conv_vjp: `dy` must have shape (2, 4, 6), that of the output.
  got: dy (2, 4, 8) float64; x (2, 3, 8) float64
  fix: pass an array of shape (2, 4, 6)."""
    )


@pytest.mark.parametrize("kernel", [(4, 3, 5), (4, 3, 0)])
def test_a_kernel_must_fit_into_the_padded_input(kernel: tuple[int, ...]) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        conv(np.zeros((2, 3, 2)), np.zeros(kernel), padding=1)
    assert (
        str(raised.value)
        == f"""\
conv: a kernel must have at least one entry, and not be larger than the padded input.
  got: padding = (1,); weight {kernel} float64; x (2, 3, 2) float64"""
    )
