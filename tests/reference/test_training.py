"""A training run is that of torch, from the first loss to the last weight; and what training keeps."""

import numpy as np
import pytest
from tests.reference.torch_check import assert_near
from tests.reference.twins import assert_trained_alike, digits, train_twin, twin_of
from tests.tolerances import TORCH, TRAINING

from normlab import errors
from normlab.reference import (
    ConvNet,
    FullyConnected,
    Solver,
    accuracy,
    init_parameters,
    init_running,
    loss_and_gradients,
    shuffled_batches,
    train,
)

# The gradient of a bias before batch norm is 0 but for rounding, 1e-17, which Adam divides by eps. With its usual 1e-8
# these biases, and the running means with them, wander 4e-10 apart in 250 steps; outputs do not change with them.
SOLVERS = {
    "momentum": Solver("momentum", lr=0.05, lr_decay=0.9, seed=3),
    "adam": Solver("adam", lr=5e-3, lr_decay=0.9, settings={"beta2": 0.99, "eps": 1e-6}, seed=3),
}


def trained_and_twin(net, training_set, validation_set, *, solver: Solver, batches):
    start = init_parameters(net, seed=1)
    twin = twin_of(net, start, init_running(net), seed=solver.seed)
    sets = training_set, validation_set
    return (
        train(net, start, *sets, solver=solver, batches=batches),
        twin,
        train_twin(net, twin, *sets, solver=solver, batches=batches),
    )


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_a_whole_run_on_digits_is_that_of_torch(norm: str | None, optimizer: str) -> None:
    """120 steps with dropout and L2, the last batch of each epoch a smaller one."""
    net = FullyConnected(64, (40, 30), 10, norm=norm, dropout=0.25, weight_scale=0.1, reg=1e-3)
    batches = shuffled_batches(490, batch=25, epochs=6, seed=2)
    ours, twin, (losses, accuracies) = trained_and_twin(
        net, digits(0, 490), digits(490, 790), solver=SOLVERS[optimizer], batches=batches
    )
    assert len(losses) == 120
    assert_trained_alike(ours, losses, accuracies, twin, TRAINING)
    assert losses[-1] < losses[0] / 2
    assert ours.validation_metric[-1] > 0.7


@pytest.mark.parametrize("norm", [None, "batch", "group", "layer"])
def test_a_run_of_the_conv_net_is_that_of_torch(norm: str | None) -> None:
    net = ConvNet((1, 8, 8), 6, 10, norm=norm, groups=3, weight_scale=0.1, reg=1e-3)
    ours, twin, (losses, accuracies) = trained_and_twin(
        net,
        digits(0, 160, image=True),
        digits(160, 360, image=True),
        solver=SOLVERS["momentum"],
        batches=shuffled_batches(160, batch=15, epochs=4, seed=2),
    )
    assert_trained_alike(ours, losses, accuracies, twin, TRAINING)
    assert losses[-1] < 0.7 * losses[0]


def test_the_best_weights_are_kept() -> None:
    """At this rate the accuracy goes up and down, and the last epoch is not the best."""
    net = FullyConnected(64, (20,), 10, norm="batch", weight_scale=0.1)
    sets = digits(0, 200), digits(200, 400)
    batches = shuffled_batches(200, batch=20, epochs=8, seed=0)
    done = train(net, init_parameters(net, 0), *sets, solver=Solver(lr=1.0), batches=batches)
    curve = done.validation_metric
    assert len(curve) == len(done.train_metric) == 9
    assert done.last.epoch == 8
    assert done.best.epoch == curve.index(max(curve)) < 8
    assert curve[-1] < max(curve)
    for at in (done.best, done.last):
        assert accuracy(net, at.parameters, *sets[1], running=at.running) == curve[at.epoch]
        assert accuracy(net, at.parameters, *sets[0], running=at.running) == done.train_metric[at.epoch]


def test_the_learning_rate_decays_from_epoch_to_epoch() -> None:
    net = FullyConnected(2, (), 2)
    data = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([0, 1])
    start = init_parameters(net, 0)
    batch = np.arange(2)
    done = train(net, start, data, data, solver=Solver(lr=0.5, lr_decay=0.1), batches=[[batch, batch], [batch]])
    expected = dict(start)
    for lr in (0.5, 0.5, 0.05):
        _, gradients, _ = loss_and_gradients(net, expected, *data, running={})
        expected = {name: expected[name] - lr * gradients[name] for name in expected}
    for name in expected:
        assert_near(done.last.parameters[name], expected[name], TORCH)


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    net = FullyConnected(64, (10,), 10, weight_scale=0.1)
    batches = shuffled_batches(60, batch=20, epochs=5, seed=0)
    with np.errstate(all="ignore"):
        done = train(
            net, init_parameters(net, 0), digits(0, 60), digits(60, 90), solver=Solver(lr=1e200), batches=batches
        )
    assert np.isfinite(done.losses[:-1]).all()
    assert not np.isfinite(done.losses[-1])
    assert len(done.losses) < 15
    assert len(done.train_metric) == len(done.validation_metric) == done.last.epoch + 1 < 6


def test_the_start_is_left_alone_and_a_run_repeats() -> None:
    net = FullyConnected(64, (10,), 10, norm="batch", dropout=0.5)
    start = init_parameters(net, 0)
    before = {name: values.copy() for name, values in start.items()}
    how = {"batches": shuffled_batches(60, batch=20, epochs=2, seed=0)}
    runs = [train(net, start, digits(0, 60), digits(60, 90), solver=Solver(seed=seed), **how) for seed in (1, 1, 2)]
    assert all(np.array_equal(start[name], before[name]) for name in start)
    assert runs[0].losses == runs[1].losses
    assert runs[0].losses[0] != runs[2].losses[0]


def test_without_an_epoch_there_is_the_start() -> None:
    net = FullyConnected(64, (10,), 10, norm="batch")
    done = train(net, init_parameters(net, 0), digits(0, 60), digits(60, 90), solver=Solver(), batches=[])
    assert done.losses == ()
    assert done.best == done.last
    assert len(done.train_metric) == 1


def test_float32_stays_float32() -> None:
    net = FullyConnected(64, (10,), 10, norm="batch", dtype="float32", reg=0.1, dropout=0.5)
    wide = {name: values.astype(np.float64) for name, values in init_parameters(net, 0).items()}
    batches = shuffled_batches(60, batch=20, epochs=2, seed=0)
    for optimizer in ("sgd", "momentum", "rmsprop", "adam"):
        done = train(net, wide, digits(0, 60), digits(60, 90), solver=Solver(optimizer), batches=batches)
        assert {values.dtype for values in done.last.parameters.values()} == {np.dtype(np.float32)}
        assert {values.dtype for values in done.last.running.values()} == {np.dtype(np.float64)}


def test_every_sample_is_seen_once_in_an_epoch() -> None:
    epochs = shuffled_batches(23, batch=5, epochs=3, seed=4)
    assert [[len(chosen) for chosen in epoch] for epoch in epochs] == [[5, 5, 5, 5, 3]] * 3
    orders = [np.concatenate(epoch).tolist() for epoch in epochs]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    again = shuffled_batches(23, batch=5, epochs=3, seed=4)
    assert [np.concatenate(epoch).tolist() for epoch in again] == orders
    assert np.concatenate(shuffled_batches(23, batch=5, epochs=1, seed=5)[0]).tolist() != orders[0]


ERRORS = [
    (
        lambda: Solver("adma", lr=-1.0, lr_decay=float("nan"), weight_decay=float("inf")),
        """\
Solver: `lr` must be a finite number, not negative.
  got: lr = -1.0
Solver: `lr_decay` must be a finite number, not negative.
  got: lr_decay = nan
Solver: `weight_decay` must be a finite number, not negative.
  got: weight_decay = inf
Solver: `optimizer` must be one of sgd, momentum, rmsprop, adam.
  got: optimizer = 'adma'
  fix: did you mean `adam`?""",
    ),
    (
        lambda: Solver("adam", settings={"beta": 0.9, "momentum": 0.5, "lr": 1.0, "eps": 1e-6}),
        """\
Solver: `settings` must be those of adam: beta1, beta2, eps.
  got: 'beta'
  fix: did you mean `beta2`?
Solver: `settings` must be those of adam: beta1, beta2, eps.
  got: 'momentum'
  fix: choose one of: beta1, beta2, eps.
Solver: `settings` must be those of adam: beta1, beta2, eps.
  got: 'lr'
  fix: choose one of: beta1, beta2, eps.""",
    ),
    (
        lambda: Solver(settings={"momentum": 0.9}),
        """\
Solver: `settings` must be those of sgd: it has none.
  got: 'momentum'
  fix: leave it out.""",
    ),
    (
        lambda: shuffled_batches(0, batch=0, epochs=-1, seed=0),
        """\
shuffled_batches: `samples` must be at least 1.
  got: samples = 0
shuffled_batches: `batch` must be at least 1.
  got: batch = 0
shuffled_batches: `epochs` must be at least 0.
  got: epochs = -1""",
    ),
]


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    assert str(raised.value) == text
