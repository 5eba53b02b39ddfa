"""One contract for the whole family: torch, differences, the step graph, and identities that hold exactly."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.reference.norm_cases import EPS, NORMS, REGIMES, Norm, drawn, torch_twin
from tests.tolerances import GRADIENT, INVARIANT, STEPS, TORCH, norm_bound

from normlab import reference
from normlab.reference import by_set, check_gradient
from normlab.reference.normalize import normalize
from normlab.reference.view import fold, fold_weight, unfold

SHAPES = [
    (2, 1, 2),
    (2, 7, 5),
    (5, 8),
    (3, 4, 15),
    (4, 6, 17),
    (2, 4, 3, 3),
    (2, 2, 2, 3, 2),
    (64, 3),
    (1, 1, 33),
]

each_norm = pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
quick = settings(max_examples=15, deadline=None, derandomize=True)


def fits(norm: Norm, shape: tuple[int, ...]) -> bool:
    return len(shape) >= norm.least_dims


def assert_near(actual: np.ndarray, expected: np.ndarray, atol: float) -> None:
    torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected), rtol=0, atol=atol)


@each_norm
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("regime", REGIMES)
def test_value_and_gradients_are_those_of_torch(norm: Norm, shape: tuple[int, ...], regime: str) -> None:
    if not fits(norm, shape):
        shape = (*shape, 3)
    z, parameters, dy = drawn(norm, shape)
    x = REGIMES[regime](z)
    view = norm.view(shape)
    weight, bias = (*parameters, np.zeros(1))[:2]
    bound = norm_bound(by_set(view, x), weight, bias, by_set(view, dy), eps=EPS, center=view.center)

    ours = (norm.forward(x, *parameters), *norm.vjp(dy, x, *parameters))
    theirs = torch_twin(norm, x, parameters, dy)
    atols = (bound.y, bound.dx, bound.dweight, bound.dbias)
    for actual, expected, atol in zip(ours, theirs, atols, strict=False):
        promise = TORCH * max(1.0, np.abs(expected).max()) if regime == "unit" else np.inf
        assert_near(actual, expected, min(atol, promise))
    assert len(ours) == len(theirs)


@each_norm
def test_without_parameters_the_gradients_of_parameters_are_none(norm: Norm) -> None:
    x, _, dy = drawn(norm, (2, 3, 4))
    y, dx = torch_twin(norm, x, (), dy) if norm.parameters == 2 else _rms_twin(x, dy)
    assert_near(norm.forward(x), y, TORCH)
    ours, *none = norm.vjp(dy, x)
    assert_near(ours, dx, TORCH)
    assert none == [None] * norm.parameters


def _rms_twin(x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    leaf = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.rms_norm(leaf, leaf.shape[1:], eps=EPS)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), leaf.grad.numpy()


@each_norm
@pytest.mark.parametrize("shape", [(2, 4, 3), (3, 2, 2, 2), (1, 2, 7)], ids=str)
def test_vjp_agrees_with_differences(norm: Norm, shape: tuple[int, ...]) -> None:
    x, parameters, _ = drawn(norm, shape, seed=1)
    assert check_gradient(norm.forward, norm.vjp, x, *parameters).error <= GRADIENT


@each_norm
@pytest.mark.parametrize("shape", [(3, 4, 2), (2, 6, 3, 2), (2, 1, 5)], ids=str)
@pytest.mark.parametrize("with_parameters", [True, False])
def test_steps_agree_with_the_closed_form(norm: Norm, shape: tuple[int, ...], with_parameters: bool) -> None:
    x, parameters, dy = drawn(norm, shape)
    weight, bias = (*parameters, None)[:2] if with_parameters else (None, None)
    record = norm.steps(x, weight, bias, dy)
    dx, dweight, *dbias = norm.vjp(dy, x, weight, bias)

    assert_near(record.steps[-1].value, norm.forward(x, weight, bias), STEPS)
    assert_near(record.dx, dx, STEPS * np.abs(dx).max())
    if weight is None:
        assert record.dweight is dweight is None
    else:
        assert_near(record.dweight, dweight, STEPS * np.abs(dweight).max())
    if bias is None:
        assert record.dbias is None
        assert dbias in ([], [None])
    else:
        assert_near(record.dbias, dbias[0], STEPS * np.abs(dbias[0]).max())


@pytest.mark.parametrize("norm", NORMS[1:], ids=lambda norm: norm.name)  # batch norm has no moments then
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0)], ids=str)
def test_an_empty_input_gives_an_empty_output(norm: Norm, shape: tuple[int, ...]) -> None:
    x, parameters, dy = drawn(norm, shape)
    dx, dweight, *_ = norm.vjp(dy, x, *parameters)
    assert norm.forward(x, *parameters).shape == dx.shape == shape
    assert_near(dweight, np.zeros(norm.parameter_shape(shape)), 0.0)


@each_norm
def test_float32_and_integers_are_computed_in_float64(norm: Norm) -> None:
    x, parameters, dy = drawn(norm, (3, 4, 5))
    narrow, whole = x.astype(np.float32), np.round(8 * x).astype(np.int8)
    assert_near(norm.forward(narrow, *parameters), norm.forward(narrow.astype(np.float64), *parameters), 0.0)
    assert_near(norm.vjp(dy, whole, *parameters)[0], norm.vjp(dy, whole * 1.0, *parameters)[0], 0.0)


@each_norm
def test_memory_layout_does_not_matter(norm: Norm) -> None:
    x, parameters, dy = drawn(norm, (3, 4, 5, 2))
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert_near(norm.forward(channels_last, *parameters), norm.forward(x, *parameters), TORCH)
    assert_near(norm.vjp(dy, channels_last, *parameters)[0], norm.vjp(dy, x, *parameters)[0], TORCH)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(2, 5))
seeds = st.integers(0, 2**32 - 1)


@each_norm
@quick
@given(shape=shapes, seed=seeds)
def test_gradients_sum_to_zero_over_a_set(norm: Norm, shape: tuple[int, ...], seed: int) -> None:
    """A constant added to a set changes nothing. For RMS norm it is the scale that does not matter, but for eps:
    Σ dx·x = eps · rstd³ · Σ g·x."""
    x, parameters, dy = drawn(norm, shape, seed)
    view = norm.view(shape)
    dx, values = by_set(view, norm.vjp(dy, x, *parameters)[0]), by_set(view, x)
    weight, bias = (*parameters, np.zeros(1))[:2]
    bound = norm_bound(values, weight, bias, by_set(view, dy), eps=EPS, center=view.center)
    if view.center:
        assert_near(dx.sum(axis=0), np.zeros(dx.shape[1]), len(dx) * bound.dx)
    else:
        rstd = 1 / np.sqrt((values**2).mean(axis=0) + EPS)
        g = unfold(view, fold(view, dy) * fold_weight(view, weight))
        expected = EPS * rstd**3 * np.sum(by_set(view, g) * values, axis=0)
        assert_near((dx * values).sum(axis=0), expected, len(dx) * bound.dx * np.abs(values).max())


@each_norm
@quick
@given(shape=shapes, seed=seeds, shift=st.floats(-100, 100), scale=st.floats(0.1, 10))
def test_shift_and_scale_of_a_set_do_not_matter(
    norm: Norm, shape: tuple[int, ...], seed: int, shift: float, scale: float
) -> None:
    """Scaling x by s with eps scaled by s² gives the same y; shifting too, for the norms that centre."""
    x, _, _ = drawn(norm, shape, seed)
    view = norm.view(shape)
    moved = scale * x + (shift if view.center else 0.0)
    one, none = np.ones(1), np.zeros(1)
    bound = norm_bound(by_set(view, moved), one, none, none, eps=EPS * scale**2, center=view.center)
    y = unfold(view, normalize(fold(view, moved), view.axes, eps=EPS * scale**2, center=view.center))
    assert_near(y, norm.forward(x), 2 * bound.y)


@quick
@given(shape=shapes, seed=seeds)
def test_group_norm_of_one_group_is_layer_norm(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, dy, weight, bias = (rng.standard_normal(s) for s in (shape, shape, shape[1], shape[1]))
    per_element = np.broadcast_to(weight[:, None], shape[1:]), np.broadcast_to(bias[:, None], shape[1:])
    grouped = reference.group_norm(x, 1, weight, bias)
    assert_near(grouped, reference.layer_norm(x, shape[1:], *per_element), TORCH)
    dx, dweight, dbias = reference.group_norm_vjp(dy, x, 1, weight, bias)
    layer_dx, layer_dweight, layer_dbias = reference.layer_norm_vjp(dy, x, shape[1:], *per_element)
    size = max(1.0, np.abs(dx).max())
    assert_near(dx, layer_dx, TORCH * size)
    assert_near(dweight, layer_dweight.sum(axis=1), TORCH * size)
    assert_near(dbias, layer_dbias.sum(axis=1), TORCH * size)


@quick
@given(shape=shapes, seed=seeds)
def test_group_norm_of_one_channel_each_is_instance_norm(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, dy, weight, bias = (rng.standard_normal(s) for s in (shape, shape, shape[1], shape[1]))
    ours = (
        reference.group_norm(x, shape[1], weight, bias),
        *reference.group_norm_vjp(dy, x, shape[1], weight, bias),
    )
    theirs = reference.instance_norm(x, weight, bias), *reference.instance_norm_vjp(dy, x, weight, bias)
    for a, b in zip(ours, theirs, strict=True):
        assert_near(a, b, TORCH * max(1.0, np.abs(b).max()))


@each_norm
@pytest.mark.parametrize("shape", [(4, 6, 9)], ids=str)
def test_a_normalized_set_has_mean_0_and_deviation_1(norm: Norm, shape: tuple[int, ...]) -> None:
    x, _, _ = drawn(norm, shape)
    values, x_hat = by_set(norm.view(shape), x), by_set(norm.view(shape), norm.forward(x))
    if norm.view(shape).center:
        assert np.all(np.abs(x_hat.mean(axis=0)) <= INVARIANT)
        var = values.var(axis=0)
    else:
        var = (values**2).mean(axis=0)
    assert np.all(np.abs((x_hat**2).mean(axis=0) - var / (var + EPS)) <= INVARIANT)
