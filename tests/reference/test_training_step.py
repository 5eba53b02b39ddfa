"""One step of training: a number by hand, torch's weight decay, what is left alone; and both losses."""

import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_near
from tests.reference.twins import OPTIMIZERS as TWINS
from tests.reference.twins import loss_of, twin_of
from tests.tolerances import TORCH

from normlab import errors
from normlab.reference import (
    OPTIMIZERS,
    FullyConnected,
    Sequential,
    Solver,
    init_parameters,
    init_running,
    linear_layer,
    loss_and_gradients,
    scores,
    shuffled_batches,
    train,
    training_step,
)

RNG = np.random.default_rng(0)
NET = FullyConnected(3, (4,), 3, norm="batch", dropout=0.3, weight_scale=0.8)
X, LABELS = RNG.standard_normal((6, 3)), np.array([0, 2, 1, 1, 0, 2])
LINE = Sequential((linear_layer("line", 1, 1),), loss="mean_squared_error")
SLOPE = {"line.weight": np.array([[2.0]]), "line.bias": np.array([0.5])}


def test_two_steps_worked_by_hand() -> None:
    """y = 2x + ½ against 0 at x = 1: loss 6.25, gradients 5 and 5; weight decay ½ adds 1 and ¼.

    With lr 0.1 the parameters become 1.4 and −0.025, so that the loss is 1.375² and the gradients are 2.75; weight
    decay adds 0.7 and −0.0125, the velocities are 6 · ½ + 3.45 and 5.25 · ½ + 2.7375, and the learning rate is halved.
    """
    solver = Solver("momentum", lr=0.1, lr_decay=0.5, settings={"momentum": 0.5}, weight_decay=0.5)
    batch = np.array([[1.0]]), np.array([[0.0]])
    loss, parameters, running, states = training_step(LINE, SLOPE, {}, {}, *batch, solver=solver, epoch=0, step=0)
    assert (loss, running) == (6.25, {})
    assert_near(parameters["line.weight"].item(), 1.4, TORCH)
    assert_near(parameters["line.bias"].item(), -0.025, TORCH)
    loss, parameters, _, _ = training_step(LINE, parameters, running, states, *batch, solver=solver, epoch=1, step=1)
    assert_near(loss, 1.375**2, TORCH)
    assert_near(parameters["line.weight"].item(), 1.4 - 0.05 * 6.45, TORCH)
    assert_near(parameters["line.bias"].item(), -0.025 - 0.05 * 5.3625, TORCH)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_is_that_of_torch_and_reaches_every_parameter(optimizer: str) -> None:
    """With layer norm: a bias before batch norm has a gradient of rounding alone, which Adam divides by eps."""
    solver = Solver(optimizer, lr=0.05, weight_decay=0.3, seed=4)
    net = FullyConnected(3, (4,), 3, norm="layer", dropout=0.3, weight_scale=0.8)
    parameters, running, states = init_parameters(net, 0), init_running(net), {}
    parameters = {name: values + 0.5 for name, values in parameters.items()}
    twin = twin_of(net, parameters, running, seed=4)
    moving = TWINS[optimizer](twin.parameters(), lr=0.05, weight_decay=0.3)
    for step in range(4):
        _, parameters, running, states = training_step(
            net, parameters, running, states, X, LABELS, solver=solver, epoch=0, step=step
        )
        moving.zero_grad()
        loss_of(net, twin, torch.tensor(X), torch.tensor(LABELS)).backward()
        moving.step()
        for name, values in twin.named_parameters():
            assert_near(parameters[name], values.detach(), TORCH)


def test_nothing_that_was_given_is_changed_and_a_step_repeats() -> None:
    solver = Solver("adam", seed=1)
    first = training_step(
        NET, init_parameters(NET, 0), init_running(NET), {}, X, LABELS, solver=solver, epoch=0, step=0
    )
    _, *given = first
    before = [{key: np.copy(values) for key, values in arrays.items()} for arrays in given[:2]]
    state = {name: {key: np.copy(value) for key, value in one.items()} for name, one in given[2].items()}
    runs = [training_step(NET, *given, X, LABELS, solver=solver, epoch=0, step=step) for step in (1, 1, 2)]
    for arrays, copies in zip(given[:2], before, strict=True):
        assert all(np.array_equal(arrays[key], copies[key]) for key in copies)
    assert all(np.array_equal(given[2][name][key], state[name][key]) for name in state for key in state[name])
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert all(np.array_equal(runs[0][1][name], runs[1][1][name]) for name in NET.parameter_shapes)
    assert not np.array_equal(runs[0][2]["layer1.norm.running_mean"], given[1]["layer1.norm.running_mean"])


def test_a_loss_that_is_not_finite_takes_no_step() -> None:
    start, running = init_parameters(NET, 0), init_running(NET)
    x = np.where(np.arange(6)[:, None] == 0, np.inf, X)
    with np.errstate(all="ignore"):
        loss, parameters, after, states = training_step(
            NET, start, running, {}, x, LABELS, solver=Solver("adam"), epoch=0, step=0
        )
    assert not np.isfinite(loss)
    assert parameters is start
    assert states == {}
    assert all(np.array_equal(after[name], values) for name, values in running.items())


def test_parameters_of_another_dtype_become_those_of_the_network() -> None:
    net = FullyConnected(3, (4,), 3, dtype="float32")
    wide = init_parameters(FullyConnected(3, (4,), 3), 0)
    for optimizer in OPTIMIZERS:
        _, parameters, _, states = training_step(
            net, wide, {}, {}, X, LABELS, solver=Solver(optimizer, weight_decay=0.1), epoch=0, step=0
        )
        assert {values.dtype for values in parameters.values()} == {np.dtype(np.float32)}
        kept = [value for state in states.values() for value in state.values() if isinstance(value, np.ndarray)]
        assert {value.dtype for value in kept} <= {np.dtype(np.float32)}


def test_squared_error_in_float32_rounds_the_targets_too() -> None:
    narrow = Sequential((linear_layer("line", 1, 1),), loss="mean_squared_error", dtype="float32")
    x, targets = RNG.standard_normal((2, 5, 1))
    loss, gradients, _ = loss_and_gradients(narrow, SLOPE, x, targets, running={})
    rounded = [a.astype(np.float32).astype(np.float64) for a in (x, targets)]
    expected = loss_and_gradients(LINE, SLOPE, *rounded, running={})
    assert loss == expected[0]
    for name, gradient in gradients.items():
        assert np.array_equal(gradient, expected[1][name].astype(np.float32))


def test_the_best_of_a_regression_has_the_smallest_error() -> None:
    """At this rate the error of the second epoch is larger than that of the first."""
    data = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    batches = shuffled_batches(2, batch=2, epochs=3, seed=0)
    done = train(LINE, SLOPE, data, data, solver=Solver(lr=0.5), batches=batches)
    curve = done.validation_metric
    assert done.best.epoch == curve.index(min(curve)) < 3
    assert max(curve) > min(curve)
    for at in (done.best, done.last):
        found = scores(LINE, at.parameters, data[0], running={})
        assert_near(curve[at.epoch], float(np.mean((found - data[1]) ** 2)), TORCH * max(1.0, curve[at.epoch]))
    assert_near(done.losses[0], curve[0], TORCH)


TARGETS = [
    (
        LINE,
        np.zeros(6),
        """\
mean_squared_error: `target` must have shape (6, 1), that of `x`.
  got: target (6,) float64; x (6, 1) float64
  fix: pass an array of shape (6, 1).""",
    ),
    (
        Sequential((linear_layer("line", 1, 1),)),
        np.zeros((6, 1)),
        """\
softmax_cross_entropy: `labels` must be one integer per row of `logits`.
  got: labels (6, 1) float64; logits (6, 1) float64""",
    ),
    (
        Sequential((linear_layer("line", 1, 1),)),
        np.full(6, 1),
        """\
softmax_cross_entropy: `labels` must lie in [0, 1), the classes of `logits`.
  got: labels from 1 to 1""",
    ),
]


@pytest.mark.parametrize(("net", "targets", "text"), TARGETS)
def test_targets_must_fit_the_loss(net: Sequential, targets: np.ndarray, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        loss_and_gradients(net, SLOPE, X[:, :1], targets, running={})
    assert str(raised.value) == text
