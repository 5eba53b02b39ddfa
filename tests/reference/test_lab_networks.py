"""Networks made of given layers, as the lab has them: one step by differences and by torch, and whole runs by torch."""

import numpy as np
import pytest
import torch
from tests.reference.lab_networks import Setup, conv_net, conv_twin, mlp, mlp_twin
from tests.reference.torch_check import assert_near
from tests.reference.twins import assert_trained_alike, digits, loss_of, tensors, train_twin
from tests.tolerances import GRADIENT, TORCH, TRAINING

from normlab.reference import (
    Solver,
    check_gradient,
    init_parameters,
    init_running,
    loss_and_gradients,
    scores,
    shuffled_batches,
    train,
)

MSE = {"loss": "mean_squared_error"}
NORMS = ["batch", "layer", "group", "instance", "rms"]
STEPS = {
    "tanh, batch on the input too, mse": (mlp, mlp_twin, Setup("batch", input_norm=True, outputs=1, bias=False), MSE),
    "sigmoid, layer": (mlp, mlp_twin, Setup("layer", "sigmoid"), {}),
    "leaky_relu, group, L2": (mlp, mlp_twin, Setup("group", "leaky_relu"), {"reg": 0.3}),
    "relu, rms, dropout": (mlp, mlp_twin, Setup("rms", "relu", dropout=0.4), {}),
    "tanh, no norm, mse of two values": (mlp, mlp_twin, Setup(outputs=2), MSE),
    "tanh, batch that never moves": (mlp, mlp_twin, Setup("batch", norm_settings={"momentum": 0.0, "eps": 0.1}), {}),
} | {
    f"conv, {norm}": (conv_net, conv_twin, Setup(norm, input_norm=norm == "batch", bias=norm != "batch", width=4), {})
    for norm in NORMS
}


def drawn(name: str):
    """The network, its twin, parameters moved off 0 and 1, running statistics that have seen something, and a batch."""
    build, build_twin, setup, network = STEPS[name]
    net = build(setup, **network)
    rng = np.random.default_rng(0)
    parameters = {
        name: values if np.ptp(values) else values + rng.uniform(-0.4, 0.4, values.shape)
        for name, values in init_parameters(net, seed=0, weight_scale=0.7).items()
    }
    running = {name: values + rng.uniform(0, 0.5, values.shape) for name, values in init_running(net).items()}
    twin = build_twin(setup, seed=5)
    twin.load_state_dict(tensors(parameters) | tensors(running))
    x = rng.standard_normal((5, 2, 4, 3) if build is conv_net else (5, 2))
    targets = rng.standard_normal((5, setup.outputs)) if network == MSE else rng.integers(0, setup.outputs, 5)
    return net, twin, parameters, running, x, targets


@pytest.mark.parametrize("name", STEPS)
def test_gradients_agree_with_differences(name: str) -> None:
    """Each array along a random direction, as in `test_networks`."""
    net, _, parameters, running, x, targets = drawn(name)
    rng = np.random.default_rng(2)
    directions = {key: rng.standard_normal(values.shape) for key, values in parameters.items()}

    def run(along: np.ndarray):
        moved = {key: parameters[key] + by * directions[key] for key, by in zip(parameters, along, strict=True)}
        return loss_and_gradients(net, moved, x, targets, running=running, seed=5, step=7)

    def vjp(dy: np.ndarray, along: np.ndarray) -> tuple[np.ndarray]:
        gradients = run(along)[1]
        return (np.array([dy * np.sum(gradients[key] * directions[key]) for key in parameters]),)

    check = check_gradient(lambda along: run(along)[0], vjp, np.zeros(len(parameters)), step=1e-4)
    assert check.error <= GRADIENT


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", STEPS)
def test_loss_gradients_statistics_and_scores_are_those_of_torch(name: str, training: bool) -> None:
    net, twin, parameters, running, x, targets = drawn(name)
    loss, gradients, after = loss_and_gradients(
        net, parameters, x, targets, running=running, training=training, seed=5, step=0
    )
    expected = loss_of(net, twin.train(training), torch.tensor(x), torch.tensor(targets))
    expected.backward()
    assert_near(loss, expected.item(), TORCH)
    leaves = dict(twin.named_parameters())
    assert list(gradients) == list(leaves)
    for name, gradient in gradients.items():
        assert_near(gradient, leaves[name].grad, TORCH)
    for name, values in after.items():
        assert_near(values, twin.state_dict()[name], TORCH)
    assert_near(scores(net, parameters, x, running=after), twin.eval()(torch.tensor(x)).detach(), TORCH)


def curve(seed: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(seed).uniform(-1, 1, (60, 1))
    return x, np.sin(3 * x)


MOMENTUM = Solver("momentum", lr=0.1, lr_decay=0.9, seed=3)
# eps as in `test_training`: a shift before batch norm (of the biases, and of the input's norm) has no gradient but for
# rounding, which Adam divides by eps. With 1e-6 the shift of the input wanders 1.3e-9 apart.
ADAM = Solver("adam", lr=0.01, lr_decay=0.95, settings={"eps": 1e-4}, seed=3)
RUNS = {
    "regression, batch on the input too, adam": (
        (mlp, mlp_twin, Setup("batch", input_norm=True, depth=3, width=10, inputs=1, outputs=1), MSE),
        ADAM,
    ),
    "regression, batch without bias, rmsprop": (
        (mlp, mlp_twin, Setup("batch", bias=False, depth=3, width=10, inputs=1, outputs=1), MSE),
        Solver("rmsprop", lr=0.003, seed=3),
    ),
    "rms, relu, dropout, weight decay": (
        (mlp, mlp_twin, Setup("rms", "relu", dropout=0.2, width=20, inputs=64, outputs=10), {}),
        Solver("momentum", lr=0.05, weight_decay=0.01, seed=3),
    ),
    "group, leaky_relu, dropout, adam, weight decay": (
        (mlp, mlp_twin, Setup("group", "leaky_relu", dropout=0.2, width=20, inputs=64, outputs=10), {}),
        Solver("adam", lr=0.01, weight_decay=0.01, seed=3),
    ),
    "layer, sigmoid, sgd, L2": (
        (mlp, mlp_twin, Setup("layer", "sigmoid", width=20, inputs=64, outputs=10), {"reg": 1e-3}),
        Solver(lr=0.5, seed=3),
    ),
} | {
    f"conv, {norm}": ((conv_net, conv_twin, Setup(norm, width=4, inputs=1, outputs=10), {}), MOMENTUM) for norm in NORMS
}


@pytest.mark.parametrize("name", RUNS)
def test_a_whole_run_is_that_of_torch(name: str) -> None:
    (build, build_twin, setup, network), solver = RUNS[name]
    net = build(setup, **network)
    image = build is conv_net
    sets = (curve(0), curve(1)) if network == MSE else (digits(0, 130, image=image), digits(130, 190, image=image))
    start = init_parameters(net, seed=1, weight_scale=0.3)
    twin = build_twin(setup, seed=solver.seed)
    twin.load_state_dict(tensors(start) | tensors(init_running(net)))
    epochs = 3 if image else 10
    batches = shuffled_batches(len(sets[0][0]), batch=25, epochs=epochs, seed=2)  # the last of an epoch is smaller
    ours = train(net, start, *sets, solver=solver, batches=batches)
    losses, metrics = train_twin(net, twin, *sets, solver=solver, batches=batches)
    assert_trained_alike(ours, losses, metrics, twin, TRAINING)
    assert max(np.abs(ours.last.parameters[name] - start[name]).max() for name in start) > 0.1
