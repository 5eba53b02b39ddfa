"""Networks: gradients by differences, names and values by torch, and what they refuse."""

import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_near
from tests.reference.twins import loss_of, twin_of
from tests.tolerances import GRADIENT, TORCH

from normlab import errors
from normlab.reference import (
    ConvNet,
    FullyConnected,
    Network,
    accuracy,
    check_gradient,
    dropout_seed,
    init_parameters,
    init_running,
    loss_and_gradients,
    scores,
)

RNG = np.random.default_rng(0)
LABELS = np.array([0, 2, 1, 1, 0])
# Draws the weights so that no ReLU and no maximum changes sides within the differences; where one does, a check fails.
SEED = 0


def fully_connected(**how) -> FullyConnected:
    return FullyConnected(3, (4, 4), 3, weight_scale=0.8, **how)


def conv_net(**how) -> ConvNet:
    return ConvNet((2, 4, 3), 4, 3, weight_scale=0.5, **how)


NETS = {
    "none": fully_connected(),
    "batch": fully_connected(norm="batch"),
    "layer": fully_connected(norm="layer"),
    "group": fully_connected(norm="group"),
    "rms": fully_connected(norm="rms"),
    "batch, momentum, eps": fully_connected(norm="batch", momentum=0.7, eps=1e-2),
    "L2": fully_connected(reg=0.7),
    "dropout": fully_connected(dropout=0.4),
    "batch, dropout, L2": fully_connected(norm="batch", dropout=0.4, reg=0.7),
    "layer, dropout, L2": fully_connected(norm="layer", dropout=0.4, reg=0.7),
    "no hidden layer": FullyConnected(3, (), 3, weight_scale=0.8, reg=0.7),
    "conv": conv_net(),
    "conv, batch, L2": conv_net(norm="batch", reg=0.7),
    "conv, group": conv_net(norm="group"),
    "conv, layer": conv_net(norm="layer"),
    "conv, instance": conv_net(norm="instance"),
    "conv, rms": conv_net(norm="rms"),
}


def inputs(net: Network) -> np.ndarray:
    shape = net.image if isinstance(net, ConvNet) else (net.inputs,)
    return np.random.default_rng(1).standard_normal((len(LABELS), *shape))


def drawn(net: Network):
    """Weights, the others moved off 0 and 1, and running statistics that have seen something."""
    rng = np.random.default_rng(SEED)
    parameters = {
        name: values if np.ptp(values) else values + rng.uniform(-0.4, 0.4, values.shape)
        for name, values in init_parameters(net, SEED).items()
    }
    running = {name: values + rng.uniform(0, 0.5, values.shape) for name, values in init_running(net).items()}
    return parameters, running


# What evaluation does in another way.
EVALUATED = ("batch", "batch, dropout, L2", "conv, batch, L2")


@pytest.mark.parametrize(
    ("name", "training"), [*((name, True) for name in NETS), *((name, False) for name in EVALUATED)]
)
def test_gradients_agree_with_differences(name: str, training: bool) -> None:
    """Each array along a random direction; element by element they are compared with torch below.

    They are one input, so that a gradient of 0 (of a bias before batch norm) is measured by the others.
    """
    net = NETS[name]
    parameters, running = drawn(net)
    directions = {key: np.random.default_rng(2).standard_normal(values.shape) for key, values in parameters.items()}

    def run(along: np.ndarray):
        moved = {key: parameters[key] + by * directions[key] for key, by in zip(parameters, along, strict=True)}
        return loss_and_gradients(net, moved, inputs(net), LABELS, running=running, training=training, seed=5, step=7)

    def vjp(dy: np.ndarray, along: np.ndarray) -> tuple[np.ndarray]:
        gradients = run(along)[1]
        return (np.array([dy * np.sum(gradients[key] * directions[key]) for key in parameters]),)

    check = check_gradient(lambda along: run(along)[0], vjp, np.zeros(len(parameters)), step=1e-4)
    assert check.error <= GRADIENT


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_one_step_is_that_of_torch(name: str, training: bool) -> None:
    net = NETS[name]
    parameters, running = drawn(net)
    x = inputs(net)
    loss, gradients, after = loss_and_gradients(
        net, parameters, x, LABELS, running=running, training=training, seed=5, step=0
    )
    twin = twin_of(net, parameters, running, seed=5).train(training)
    expected = loss_of(net, twin, torch.tensor(x), torch.tensor(LABELS))
    expected.backward()
    assert_near(loss, expected.item(), TORCH)
    leaves = dict(twin.named_parameters())
    assert list(gradients) == list(parameters) == list(leaves)
    for name, gradient in gradients.items():
        assert_near(gradient, leaves[name].grad, TORCH)
    for name, values in after.items():
        assert_near(values, twin.state_dict()[name], TORCH)
        assert not np.shares_memory(values, running[name])
        assert np.array_equal(values, running[name]) is not training
    found = scores(net, parameters, x, running=after)
    assert_near(found, twin.eval()(torch.tensor(x)).detach(), TORCH)
    right = [int(np.argmax(row)) == label for row, label in zip(found, LABELS, strict=True)]
    assert accuracy(net, parameters, x, LABELS, running=after) == sum(right) / 5


def test_the_bias_before_a_batch_norm_is_redundant() -> None:
    net = NETS["batch"]
    parameters, running = drawn(net)
    _, gradients, _ = loss_and_gradients(net, parameters, inputs(net), LABELS, running=running)
    assert_near(gradients["layer1.weights.bias"], np.zeros(4), TORCH)


def test_the_start() -> None:
    net = FullyConnected(50, (400,), 10, norm="batch", weight_scale=0.3)
    start = init_parameters(net, seed=3)
    assert list(start) == [
        "layer1.weights.weight",
        "layer1.weights.bias",
        "layer1.norm.weight",
        "layer1.norm.bias",
        "output.weight",
        "output.bias",
    ]
    weight = start["layer1.weights.weight"]
    n = weight.size
    # Five standard deviations of the mean and the deviation of n normal values.
    assert abs(weight.mean()) < 5 * 0.3 / np.sqrt(n)
    assert abs(weight.std() - 0.3) < 5 * 0.3 / np.sqrt(2 * n)
    assert set(start["layer1.norm.weight"]) == {1.0}
    assert {value for name in start if name.endswith("bias") for value in start[name]} == {0.0}
    assert not np.array_equal(weight, init_parameters(net, seed=4)["layer1.weights.weight"])


def test_the_start_does_not_depend_on_norm_or_dtype() -> None:
    plain, normed = fully_connected(), fully_connected(norm="layer", dtype="float32")
    start, other = init_parameters(plain, 0), init_parameters(normed, 0)
    for name, values in start.items():
        assert other[name].dtype == np.float32
        assert np.array_equal(values.astype(np.float32), other[name])


def test_masks_differ_between_steps_layers_and_seeds_and_not_between_norms() -> None:
    seeds = {
        dropout_seed(seed, step, layer)
        for seed in (0, 1)
        for step in (0, 1, 256)
        for layer in ("layer1.dropout", "layer2.dropout")
    }
    assert len(seeds) == 12
    parameters, _ = drawn(fully_connected(dropout=0.4))
    losses = {
        loss_and_gradients(NETS["dropout"], parameters, inputs(NETS["dropout"]), LABELS, running={}, step=step)[0]
        for step in range(4)
    }
    assert len(losses) == 4


def test_float32_rounds_parameters_inputs_and_gradients_and_nothing_else() -> None:
    narrow, wide = fully_connected(norm="batch", dtype="float32"), fully_connected(norm="batch")
    parameters, running = drawn(wide)
    x = inputs(wide)
    loss, gradients, after = loss_and_gradients(narrow, parameters, x, LABELS, running=running)
    rounded = {name: values.astype(np.float32) for name, values in parameters.items()}
    expected = loss_and_gradients(wide, rounded, x.astype(np.float32), LABELS, running=running)
    assert loss == expected[0]
    for name, gradient in gradients.items():
        assert gradient.dtype == np.float32
        assert np.array_equal(gradient, expected[1][name].astype(np.float32))
    for name, values in after.items():
        assert np.array_equal(values, expected[2][name])


def test_images_are_flattened_and_rows_that_fill_no_window_are_left_out() -> None:
    net = FullyConnected(20, (3,), 2, weight_scale=1.0)
    x = RNG.standard_normal((5, 1, 5, 4))
    start = init_parameters(net, 0)
    assert np.array_equal(scores(net, start, x, running={}), scores(net, start, x.reshape(5, 20), running={}))
    assert scores(net, start, x[:0], running={}).shape == (0, 2)
    assert ConvNet((1, 5, 4), 3, 2).parameter_shapes["output.weight"] == (2, 3 * 2 * 2)


ERRORS = [
    (
        lambda: FullyConnected(
            0,
            (3, 0),
            -1,
            norm="bach",
            loss="hinge",
            dtype="float16",
            weight_scale=-1.0,
            reg=float("inf"),
            momentum=-1.0,
        ),
        """\
FullyConnected: `norm` must be one of batch, layer, group, rms, or None.
  got: norm = 'bach'
  fix: did you mean `batch`?
FullyConnected: `loss` must be one of cross_entropy, mean_squared_error.
  got: loss = 'hinge'
  fix: choose one of: cross_entropy, mean_squared_error.
FullyConnected: `dtype` must be one of float32, float64.
  got: dtype = 'float16'
  fix: did you mean `float64`?
FullyConnected: `reg` must be a finite number, not negative.
  got: reg = inf
FullyConnected: `momentum` must lie in [0, 1].
  got: momentum = -1.0
  fix: momentum is the weight of the new batch; keep-momentum 0.9 is momentum=0.1.
FullyConnected: `weight_scale` must be a finite number, not negative.
  got: weight_scale = -1.0
FullyConnected: `inputs` must be at least 1.
  got: inputs = 0
FullyConnected: `hidden` must be at least 1.
  got: hidden = 3, 0
FullyConnected: `classes` must be at least 1.
  got: classes = -1""",
    ),
    (
        lambda: ConvNet((1, 0, 4), 0, 2, kernel=0, pool=0, norm="", groups=0, eps=-1.0),
        """\
ConvNet: `norm` must be one of batch, layer, group, instance, rms, or None.
  got: norm = ''
  fix: choose one of: batch, layer, group, instance, rms.
ConvNet: `eps` must be a finite number, not negative.
  got: eps = -1.0
  fix: pass eps=1e-5.
ConvNet: `groups` must be at least 1.
  got: groups = 0
ConvNet: `image` must be at least 1.
  got: image = 1, 0, 4
ConvNet: `filters` must be at least 1.
  got: filters = 0
ConvNet: `kernel` must be at least 1.
  got: kernel = 0
ConvNet: `pool` must be at least 1.
  got: pool = 0""",
    ),
    (
        lambda: scores(
            FullyConnected(4, (), 3),
            {"output.weight": np.zeros((4, 3)), "outptu.bias": np.zeros(3)},
            np.zeros((5, 4)),
            running={"a": np.zeros(1)},
        ),
        """\
scores: `parameters` must have the names of the network's layers.
  got: missing: output.bias; unknown: outptu.bias
scores: `parameters['output.weight']` must have shape (3, 4).
  got: output.weight (4, 3) float64
scores: `running` must have the names of the network's layers.
  got: missing: none; unknown: a""",
    ),
    (
        lambda: loss_and_gradients(
            FullyConnected(4, (2,), 3, norm="batch"),
            init_parameters(FullyConnected(4, (2,), 3, norm="batch"), 0),
            np.zeros((5, 4)),
            LABELS,
            running={"layer1.norm.running_mean": np.zeros(3)},
        ),
        """\
loss_and_gradients: `running` must have the names of the network's layers.
  got: missing: layer1.norm.running_var; unknown: none
loss_and_gradients: `running['layer1.norm.running_mean']` must have shape (2,).
  got: layer1.norm.running_mean (3,) float64""",
    ),
    (
        lambda: accuracy(NETS["none"], drawn(NETS["none"])[0], np.zeros((5, 4)), np.zeros(1, dtype=int), running={}),
        """\
accuracy: `labels` must be one integer per sample.
  got: labels (1,) int64; x (5, 4) float64""",
    ),
    (
        lambda: scores(NETS["none"], drawn(NETS["none"])[0], np.zeros((5, 4)), running={}),
        """\
linear: `weight` must have shape (O, D), D being the last dimension of `x`.
  got: weight (4, 3) float64; x (5, 4) float64""",
    ),
]


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    assert str(raised.value) == text
