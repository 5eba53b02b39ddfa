"""Layers by name: what each is made of; and a network of them."""

import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_as_torch, assert_near
from tests.reference.twins import norm_twin
from tests.tolerances import TORCH
from torch import nn
from torch.nn import functional

from normlab import errors
from normlab.reference import (
    Layer,
    Sequential,
    activation_layer,
    avg_pool,
    avg_pool_vjp,
    batch_norm,
    batch_norm_vjp,
    conv_layer,
    dropout_layers,
    init_parameters,
    init_running,
    linear_layer,
    loss_and_gradients,
    max_pool_layer,
    norm_layers,
    scores,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_convolution_has_the_size_of_its_input(size: int, bias: bool) -> None:
    layer = conv_layer("c", 2, 3, size, bias=bias)
    arrays = [RNG.standard_normal(shape) for shape in layer.shapes.values()]
    assert list(layer.parameter_shapes) == ["c.weight", "c.bias"][: 1 + bias]
    assert_as_torch(
        lambda x, *p: layer.op(x, **dict(zip(layer.shapes, p, strict=True)), **layer.settings),
        lambda dy, x, *p: layer.vjp(dy, x, **dict(zip(layer.shapes, p, strict=True)), **layer.settings)[: 2 + bias],
        lambda x, *p: functional.conv2d(x, *p, padding="same"),
        RNG.standard_normal((2, 2, 5, 6)),
        *arrays,
    )


@pytest.mark.parametrize(
    ("norm", "spatial"),
    [
        ("instance", True),
        *((norm, spatial) for norm in ("batch", "layer", "group", "rms") for spatial in (False, True)),
    ],
)
@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_each_norm_is_torch_s_with_one_weight_a_channel(norm: str, spatial: bool, mean: float) -> None:
    (layer,) = norm_layers("n", norm, 6, groups=3, eps=1e-2)
    x = mean + RNG.standard_normal((4, 6, 3, 2) if spatial else (4, 6))
    twin = norm_twin(norm, 6, spatial=spatial, groups=3, eps=1e-2).double()
    names, parameters = list(layer.shapes), [RNG.standard_normal(shape) for shape in layer.shapes.values()]
    assert names == [name for name, _ in twin.named_parameters()]
    assert_as_torch(
        lambda x, *p: layer.op(x, **dict(zip(names, p, strict=True)), **layer.settings),
        lambda dy, x, *p: layer.vjp(dy, x, **dict(zip(names, p, strict=True)), **layer.settings),
        lambda x, *p: torch.func.functional_call(twin, dict(zip(names, p, strict=True)), (x,)),
        x,
        *parameters,
        atol=TORCH * max(1.0, mean),
    )


def test_running_statistics_are_kept_by_batch_norm_alone() -> None:
    for norm in ("batch", "layer", "group", "instance", "rms"):
        (layer,) = norm_layers("n", norm, 6, momentum=0.3)
        assert list(layer.running_shapes) == (["n.running_mean", "n.running_var"] if norm == "batch" else [])


def test_what_is_absent_is_no_layer() -> None:
    assert norm_layers("n", None, 6) == dropout_layers("d", 0.0) == ()


@pytest.mark.parametrize(
    ("layer", "twin"),
    [
        (activation_layer("a", "relu"), torch.relu),
        (activation_layer("a", "tanh"), torch.tanh),
        (activation_layer("a", "sigmoid"), torch.sigmoid),
        (activation_layer("a", "leaky_relu"), lambda x: functional.leaky_relu(x, 0.2)),
        (activation_layer("a", "leaky_relu", slope=0.5), lambda x: functional.leaky_relu(x, 0.5)),
        (max_pool_layer("p", 2), lambda x: functional.max_pool2d(x, 2)),
    ],
)
def test_layers_without_parameters(layer: Layer, twin) -> None:
    x = RNG.standard_normal((2, 3, 4, 6))
    assert layer.parameter_shapes == {}
    assert_as_torch(lambda x: layer.op(x, **layer.settings), lambda dy, x: layer.vjp(dy, x, **layer.settings), twin, x)


def test_any_op_can_be_a_layer_with_its_own_settings() -> None:
    """Average pooling, and batch norm whose channels stand last and which has its own momentum."""
    shapes = {"weight": (3,), "bias": (3,)}
    net = Sequential(
        (
            Layer("norm", batch_norm, batch_norm_vjp, shapes, {"axis": -1}, momentum=0.5),
            Layer("pool", avg_pool, avg_pool_vjp, settings={"size": 2}),
        ),
        loss="mean_squared_error",
    )
    parameters, running = init_parameters(net, 0, weight_scale=1.0), init_running(net)
    x, targets = RNG.standard_normal((2, 4, 6, 3)), RNG.standard_normal((2, 4, 3, 1))
    with pytest.raises(errors.InvalidInputError):
        loss_and_gradients(net, parameters, x, targets[:, :, :, 0], running=running)
    loss, gradients, after = loss_and_gradients(net, parameters, x, targets, running=running)
    twin = nn.BatchNorm2d(3, momentum=0.5).double()
    normed = twin(torch.tensor(x).movedim(-1, 1)).movedim(1, -1)
    expected = functional.mse_loss(functional.avg_pool2d(normed, 2), torch.tensor(targets))
    expected.backward()
    assert_near(loss, expected.item(), TORCH)
    assert_near(gradients["norm.weight"], twin.weight.grad, TORCH)
    assert_near(gradients["norm.bias"], twin.bias.grad, TORCH)
    assert_near(after["norm.running_mean"], twin.running_mean, TORCH)
    assert_near(after["norm.running_var"], twin.running_var, TORCH)
    assert scores(net, parameters, x, running=after).shape == (2, 4, 3, 1)


def test_the_start_of_given_layers() -> None:
    net = Sequential((linear_layer("a", 30, 40, bias=False), *norm_layers("n", "batch", 40), linear_layer("b", 40, 2)))
    start = init_parameters(net, seed=0, weight_scale=0.5)
    assert list(start) == ["a.weight", "n.weight", "n.bias", "b.weight", "b.bias"]
    # Five standard deviations of the deviation of n normal values.
    assert abs(start["a.weight"].std() - 0.5) < 5 * 0.5 / np.sqrt(2 * start["a.weight"].size)
    assert set(start["n.weight"]) == {1.0}
    assert set(start["n.bias"]) == set(start["b.bias"]) == {0.0}
    assert list(init_running(net)) == ["n.running_mean", "n.running_var"]


ERRORS = [
    (
        lambda: norm_layers("n", "bach", 4, eps=-1.0, momentum=1.5),
        """\
norm_layers: `norm` must be one of batch, layer, group, instance, rms, or None.
  got: norm = 'bach'
  fix: did you mean `batch`?
norm_layers: `eps` must be a finite number, not negative.
  got: eps = -1.0
  fix: pass eps=1e-5.
norm_layers: `momentum` must lie in [0, 1].
  got: momentum = 1.5
  fix: momentum is the weight of the new batch; keep-momentum 0.9 is momentum=0.1.""",
    ),
    (
        lambda: activation_layer("a", "tahn"),
        """\
activation_layer: `activation` must be one of relu, tanh, sigmoid, leaky_relu.
  got: activation = 'tahn'
  fix: did you mean `tanh`?""",
    ),
    (
        lambda: Sequential((activation_layer("a", "relu"), linear_layer("a", 2, 2)), loss="mse", reg=-1.0),
        """\
Sequential: `loss` must be one of cross_entropy, mean_squared_error.
  got: loss = 'mse'
  fix: choose one of: cross_entropy, mean_squared_error.
Sequential: `reg` must be a finite number, not negative.
  got: reg = -1.0
Sequential: every layer must have a name of its own.
  got: more than once: a
  fix: name them layer1.norm, layer2.norm, ….""",
    ),
    (
        lambda: init_parameters(Sequential((linear_layer("a", 2, 2),)), 0),
        """\
init_parameters: `weight_scale` must be given for a network that has none of its own.
  got: Sequential; weight_scale = None
  fix: pass weight_scale=0.1.""",
    ),
    (
        lambda: init_parameters(Sequential((linear_layer("a", 2, 2),)), 0, weight_scale=-1.0),
        """\
init_parameters: `weight_scale` must be a finite number, not negative.
  got: weight_scale = -1.0""",
    ),
]


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        call()
    assert str(raised.value) == text
