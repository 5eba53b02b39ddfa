"""Masks of the norms whose sets lie within a sample; those of batch norm are in test_batch_norm_mask.py."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tests.reference.masked_cases import (
    ELEMENTS,
    EPS,
    NORMS,
    POSITIONS,
    SHAPE,
    MaskedNorm,
    composite,
    drawn,
    of_real_values_alone,
)
from tests.reference.torch_check import assert_as_torch, assert_near
from tests.tolerances import GRADIENT, STEPS, TORCH

from normlab import errors
from normlab.reference import (
    check_gradient,
    group_norm,
    group_norm_vjp,
    instance_norm,
    instance_norm_vjp,
    layer_norm,
    layer_norm_steps,
    layer_norm_vjp,
    rms_norm,
)

JUNK = [np.nan, np.inf, -np.inf, 1e307, -1e200]
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=20, deadline=None, derandomize=True)
each_norm = pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
each_junk = pytest.mark.parametrize("junk", JUNK)


def nothing_is_real(norm: MaskedNorm) -> np.ndarray:
    """In the shape of x: True in the sets that have no real value."""
    empty = ~norm.real.reshape(norm.sets).any(axis=-1, keepdims=True)
    return np.broadcast_to(empty, norm.sets).reshape(SHAPE)


def test_three_of_four_values_worked_by_hand() -> None:
    """Real are 1, 3 and 5: mean 3, variance 8/3; with eps 4/3 the deviation is 2, and the padding, 9, becomes 3."""
    x, mask = np.array([[1.0, 3.0, 5.0, 9.0]]), np.array([True, True, True, False])
    weight, bias = np.full(4, 2.0), np.full(4, 1.0)
    y = layer_norm(x, 4, weight, bias, eps=4 / 3, mask=mask)
    assert_near(y, np.array([[-1.0, 1.0, 3.0, 7.0]]), TORCH)
    # x_hat = −1, 0, 1, 3. With dy = (1, 0, 0, 1): g = (2, 0, 0, 2), Σ g = 4 and Σ g·x_hat = 4 over all four, so that
    # dx = ½ · (g − ⅓ · (4 + 4 · x_hat)) where it is real, and ½ · 2 where it is not.
    dy = np.array([[1.0, 0.0, 0.0, 1.0]])
    dx, dweight, dbias = layer_norm_vjp(dy, x, 4, weight, bias, eps=4 / 3, mask=mask)
    assert_near(dx, np.array([[1.0, -2 / 3, -4 / 3, 1.0]]), TORCH)
    assert_near(dweight, np.array([-1.0, 0.0, 0.0, 3.0]), TORCH)
    assert_near(dbias, np.array([1.0, 0.0, 0.0, 1.0]), TORCH)


@each_norm
@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_values_and_gradients_are_those_of_a_composite_in_torch(norm: MaskedNorm, mean: float) -> None:
    """Of a sample without a real value too. Rounding is of the size of the mean; E[x²] − E[x]² would square it."""
    x, parameters, _ = drawn(norm)
    assert_as_torch(
        lambda *a: norm.forward(*a, mask=norm.mask),
        lambda *a: norm.vjp(*a, mask=norm.mask),
        lambda *a: composite(norm, *a),
        mean + x,
        *parameters,
        atol=TORCH * max(1.0, mean),
    )


@each_norm
def test_the_vjp_agrees_with_differences(norm: MaskedNorm) -> None:
    x, parameters, _ = drawn(norm)
    x = np.where(nothing_is_real(norm), 0.0, x)  # of no influence there, and differences of the bias are rounded
    check = check_gradient(
        lambda *a: norm.forward(*a, mask=norm.mask), lambda *a: norm.vjp(*a, mask=norm.mask), x, *parameters
    )
    assert check.error <= GRADIENT


@each_norm
@each_junk
def test_spoilt_padding_leaves_what_the_real_values_alone_give(norm: MaskedNorm, junk: float) -> None:
    """The gradient from above is random at the padding too."""
    x, parameters, dy = drawn(norm)
    spoilt = np.where(norm.real, x, junk)
    y, dx, of_parameters = of_real_values_alone(norm, x, parameters, dy)
    # padding that is spoilt comes out as 0, which is what `of_real_values_alone` has there
    assert_near(norm.forward(spoilt, *parameters, mask=norm.mask), y, TORCH)
    found = norm.vjp(dy, spoilt, *parameters, mask=norm.mask)
    for ours, expected in zip(found, (dx, *of_parameters), strict=True):
        assert_near(ours, expected, TORCH * max(1.0, np.abs(expected).max()))
    assert set(found[0][~norm.real]) == {0.0}


@each_norm
@pytest.mark.parametrize("junk", [np.nan, np.inf])
def test_a_gradient_from_above_that_is_not_finite_at_the_padding_counts_as_0(norm: MaskedNorm, junk: float) -> None:
    x, parameters, dy = drawn(norm)
    spoilt, clean = np.where(norm.real, dy, junk), np.where(norm.real, dy, 0.0)
    for ours, expected in zip(
        norm.vjp(spoilt, x, *parameters, mask=norm.mask), norm.vjp(clean, x, *parameters, mask=norm.mask), strict=True
    ):
        assert np.array_equal(ours, expected)


@each_norm
@pytest.mark.parametrize("eps", [EPS, 0.0])
def test_a_set_without_a_real_value_comes_out_as_the_bias_and_has_no_gradient(norm: MaskedNorm, eps: float) -> None:
    """With eps 0 too: nothing is divided by the deviation of nothing. Padding of 1e99 is no junk."""
    x, parameters, dy = drawn(norm)
    nothing = np.zeros_like(norm.mask)
    bias = norm.per_element(parameters[1]) if norm.center else 0.0
    for values in (x, np.full(SHAPE, 1e99)):
        y = norm.forward(values, *parameters, eps=eps, mask=nothing)
        dx, dweight, *dbias = norm.vjp(dy, values, *parameters, eps=eps, mask=nothing)
        assert np.array_equal(y, np.broadcast_to(bias, SHAPE))
        assert not dx.any()
        assert not dweight.any()
        for d in dbias:
            assert_near(d, norm.sum_to_parameter(dy), TORCH)


@each_norm
def test_a_mask_that_is_true_everywhere_changes_no_bit(norm: MaskedNorm) -> None:
    x, parameters, dy = drawn(norm)
    everything = np.ones_like(norm.mask)
    found = norm.forward(x, *parameters, mask=everything), *norm.vjp(dy, x, *parameters, mask=everything)
    for ours, expected in zip(found, (norm.forward(x, *parameters), *norm.vjp(dy, x, *parameters)), strict=True):
        assert np.array_equal(ours, expected)


@each_norm
@pytest.mark.parametrize("junk", [0.5, *JUNK])
def test_the_nodes_are_finite_and_end_in_the_closed_form(norm: MaskedNorm, junk: float) -> None:
    """But for the deviation of a set without a real value, which is ∞."""
    x, parameters, dy = drawn(norm)
    spoilt = np.where(norm.real, x, junk)
    record = norm.steps(spoilt, *(*parameters, None)[:2], dy, mask=norm.mask)
    for step in record.steps:
        if step.name not in ("std", "rms"):
            assert np.isfinite(step.value).all(), step.name
        assert np.isfinite(step.gradient).all(), step.name
    assert_near(record.steps[-1].value, norm.forward(spoilt, *parameters, mask=norm.mask), STEPS)
    found = (record.dx, record.dweight, record.dbias)[: 1 + len(parameters)]
    for ours, expected in zip(found, norm.vjp(dy, spoilt, *parameters, mask=norm.mask), strict=True):
        assert_near(ours, expected, STEPS * np.abs(expected).max())


@each_norm
def test_a_value_that_is_real_and_not_finite_is_not_hidden(norm: MaskedNorm) -> None:
    x, parameters, dy = drawn(norm)
    first = tuple(np.argwhere(norm.real)[0])
    x[first] = np.nan
    assert np.isnan(norm.forward(x, *parameters, mask=norm.mask)[first])
    assert np.isnan(norm.vjp(dy, x, *parameters, mask=norm.mask)[0][first])


@each_norm
@quick
@given(seed=seeds, share=st.floats(0, 1), junk=st.sampled_from([0.0, 1e9, -1e99, *JUNK]))
def test_padding_changes_nothing_that_is_real(norm: MaskedNorm, seed: int, share: float, junk: float) -> None:
    """No output; and no gradient, as long as the gradient from above is 0 at the padding."""
    x, parameters, dy = drawn(norm, seed)
    mask = np.random.default_rng(seed).random(norm.mask.shape) < share
    real = norm.on_x(mask)
    spoilt = np.where(real, x, junk)
    y, spoilt_y = (norm.forward(a, *parameters, mask=mask) for a in (x, spoilt))
    assert np.array_equal(y[real], spoilt_y[real])
    dy = np.where(real, dy, 0.0)
    dx, *of_parameters = norm.vjp(dy, x, *parameters, mask=mask)
    spoilt_dx, *spoilt_of_parameters = norm.vjp(dy, spoilt, *parameters, mask=mask)
    assert np.array_equal(dx[real], spoilt_dx[real])
    assert not dx[~real].any()
    for a, b in zip(of_parameters, spoilt_of_parameters, strict=True):
        assert np.array_equal(a, b)


@quick
@given(seed=seeds)
def test_the_family_holds_together_under_a_mask(seed: int) -> None:
    """Group norm of one group is layer norm over (C, S), and of one channel each it is instance norm."""
    rng = np.random.default_rng(seed)
    x, dy, mask = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE), rng.random(POSITIONS.shape) < 0.6
    on_layer = {"mask": mask[:, None]}
    assert_near(group_norm(x, 1, mask=mask), layer_norm(x, SHAPE[1:], **on_layer), TORCH)
    dx = layer_norm_vjp(dy, x, SHAPE[1:], **on_layer)[0]
    assert_near(group_norm_vjp(dy, x, 1, mask=mask)[0], dx, TORCH * max(1.0, np.abs(dx).max()))
    assert_near(group_norm(x, 6, mask=mask), instance_norm(x, mask=mask), TORCH)
    dx = instance_norm_vjp(dy, x, mask=mask)[0]
    assert_near(group_norm_vjp(dy, x, 6, mask=mask)[0], dx, TORCH * max(1.0, np.abs(dx).max()))


@pytest.mark.parametrize("shape", [(4, 1, 2, 2), (4, 6, 1, 1), (1, 1, 1, 2), (2,), ()], ids=str)
def test_masks_are_broadcast_as_arrays_are(shape: tuple[int, ...]) -> None:
    x, parameters, dy = drawn(NORMS[0])
    mask = np.asarray(np.random.default_rng(5).random(shape) < 0.6)
    full = np.broadcast_to(mask, SHAPE)
    found = (layer_norm(x, SHAPE[1:], *parameters, mask=m) for m in (mask, full))
    assert np.array_equal(*found)
    found = (layer_norm_vjp(dy, x, SHAPE[1:], *parameters, mask=m)[0] for m in (mask, full))
    assert np.array_equal(*found)
    if len(shape) < 3:  # or else it has a dimension for the channels
        found = (group_norm(x, 2, mask=m) for m in (mask, np.broadcast_to(mask, POSITIONS.shape)))
        assert np.array_equal(*found)


def test_tokens_that_are_padding_leave_the_others_as_they_were() -> None:
    """(N, L, D), each token a set of its own: a mask changes what becomes of padding, and nothing else."""
    rng = np.random.default_rng(6)
    x, tokens = rng.standard_normal((3, 5, 8)), np.arange(5) < np.array([[5], [3], [0]])
    bias = rng.standard_normal(8)
    y = layer_norm(x, 8, None, bias, mask=tokens[..., None])
    assert np.array_equal(y[tokens], layer_norm(x, 8, None, bias)[tokens])
    assert np.array_equal(y[~tokens], np.broadcast_to(bias, (7, 8)))


NOT_BOOLEAN = """\
{where}: `mask` must be boolean.
  got: mask {shape} float64
  fix: pass mask.astype(bool), True where a value is real."""
ERRORS = [
    (lambda x: group_norm(x, 3, mask=POSITIONS * 1.0), NOT_BOOLEAN.format(where="group_norm", shape=POSITIONS.shape)),
    (lambda x: rms_norm(x, 2, mask=ELEMENTS * 1.0), NOT_BOOLEAN.format(where="rms_norm", shape=SHAPE)),
    (
        lambda x: instance_norm_vjp(x, x, mask=np.ones((4, 6), dtype=bool)),
        """\
instance_norm_vjp: `mask` must be broadcastable to (4, 2, 2), the shape of `x` without its channels.
  got: mask (4, 6) bool""",
    ),
    (
        lambda x: layer_norm_steps(x, 2, None, None, x, mask=np.ones((4, 6), dtype=bool)),
        """\
layer_norm_steps: `mask` must be broadcastable to (4, 6, 2, 2), the shape of `x`.
  got: mask (4, 6) bool
  fix: let its dimensions line up with the last ones of `x`; for whole samples, mask[..., None].""",
    ),
]


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        call(np.zeros(SHAPE))
    assert str(raised.value) == text
