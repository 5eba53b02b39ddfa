"""The table of norms against the formulas, written out in NumPy float64."""

import numpy as np
import pytest
import torch
from torch import nn

from normlab import errors
from normlab.lab.config import Model, RunConfig
from normlab.lab.norms import norm_layer
from normlab.tools.norms import NORMS, ChannelRMSNorm

EPS = 1e-2  # large enough to see that it is passed on
GROUPS = 4
# float32 of unit size after one normalization: 16 roundings (see tests/tolerances.py, ROUNDINGS) of 2⁻²³, on values
# below 8
BOUND = 16 * 2.0**-23 * 8


def formula(name: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The norm of the name, with one weight and one bias a channel."""
    if name == "batch":  # moments over samples and positions
        sets, axes = x, (0, *range(2, x.ndim))
    else:  # moments over the channels of a group, and positions
        groups = {"layer": 1, "rms": 1, "group": GROUPS, "instance": x.shape[1]}[name]
        sets, axes = x.reshape(len(x), groups, -1), (2,)
    mean = 0.0 if name == "rms" else sets.mean(axes, keepdims=True)
    var = ((sets - mean) ** 2).mean(axes, keepdims=True)
    x_hat = ((sets - mean) / np.sqrt(var + EPS)).reshape(x.shape)
    channel = (1, -1, *[1] * (x.ndim - 2))
    return x_hat * weight.reshape(channel) + bias.reshape(channel)


# instance norm of units is refused: see test_config
CASES = [(name, (5, 8)) for name in ("batch", "layer", "group", "rms")]
CASES += [
    (name, (5, 8, *sides))
    for name in ("batch", "layer", "group", "instance", "rms")
    for sides in ((6,), (3, 2), (3, 1, 2))
]


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_a_norm_is_its_formula(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(1, 2, shape).astype(np.float32).astype(np.float64), rng.normal(size=8)
    bias = np.zeros(8) if name == "rms" else rng.normal(size=8)
    model = Model(kind="conv", width=8)  # the one that takes every norm
    config = RunConfig(norm=name, norm_eps=EPS, norm_groups=GROUPS, model=model)
    layer = norm_layer(config, 8, spatial=len(shape) - 2)
    assert layer is not None
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (weight, bias), strict=False):
            parameter.copy_(torch.tensor(value))
        found = layer(torch.tensor(x, dtype=torch.float32)).numpy()
    expected = formula(name, x, weight, bias)
    assert np.abs(expected).max() < 8
    assert np.abs(found - expected).max() < BOUND


@pytest.mark.parametrize("spatial", [0, 1, 2, 3])
@pytest.mark.parametrize("name", sorted(set(NORMS) - {"none", "instance"}))
def test_a_norm_starts_as_the_plain_normalization(name: str, spatial: int) -> None:
    layer = norm_layer(RunConfig(norm=name), 64, spatial)
    assert layer is not None
    parameters = dict(layer.named_parameters())
    assert set(parameters) == ({"weight"} if name == "rms" else {"weight", "bias"})
    assert torch.equal(parameters["weight"], torch.ones(64))
    assert torch.equal(parameters.get("bias", torch.zeros(64)), torch.zeros(64))


def test_none_is_no_layer() -> None:
    assert norm_layer(RunConfig(norm="none"), 8) is None


@pytest.mark.parametrize(
    ("spatial", "batch", "instance"),
    [
        (0, nn.BatchNorm1d, None),
        (1, nn.BatchNorm1d, nn.InstanceNorm1d),
        (2, nn.BatchNorm2d, nn.InstanceNorm2d),
        (3, nn.BatchNorm3d, nn.InstanceNorm3d),
    ],
)
def test_the_layers_are_those_of_torch(spatial: int, batch: type[nn.Module], instance: type[nn.Module] | None) -> None:
    layer = norm_layer(RunConfig(norm="batch", norm_eps=0.25, norm_momentum=0.75), 3, spatial)
    assert isinstance(layer, batch)
    assert (layer.num_features, layer.eps, layer.momentum) == (3, 0.25, 0.75)
    assert layer.track_running_stats
    if instance:
        layer = norm_layer(RunConfig(norm="instance", norm_eps=0.25, model=Model(kind="conv")), 3, spatial)
        assert isinstance(layer, instance)
        assert (layer.num_features, layer.eps, layer.affine, layer.track_running_stats) == (3, 0.25, True, False)


def test_a_momentum_of_zero_never_moves_the_running_statistics() -> None:
    layer = norm_layer(RunConfig(norm="batch", norm_momentum=0), 3)
    assert layer is not None
    start = {"running_mean": torch.tensor([0.1, -3.0, 1e30]), "running_var": torch.tensor([1e-30, 0.3, 7.0])}
    layer.load_state_dict(start, strict=False)
    for seed in range(3):
        layer(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)))
    assert all(torch.equal(layer.get_buffer(name), values) for name, values in start.items())


@pytest.mark.parametrize("momentum", ["average", "pooled"])
def test_statistics_that_are_replaced_move_like_those_of_torch_until_then(momentum: str) -> None:
    layer = norm_layer(RunConfig(norm="batch", norm_momentum=momentum), 3)
    assert isinstance(layer, nn.BatchNorm1d)
    assert layer.momentum == nn.BatchNorm1d(3).momentum


@pytest.mark.parametrize(
    ("norm", "channels", "spatial", "reason"),
    [
        ("group", 30, 2, "8 groups do not divide 30 channels"),
        ("instance", 8, 0, "instance norm takes its moments over positions, and here are none"),
    ],
)
def test_a_norm_that_cannot_stand_there_is_refused(norm: str, channels: int, spatial: int, reason: str) -> None:
    config = RunConfig(norm=norm, model=Model(kind="conv"))
    with pytest.raises(errors.UsageError) as caught:
        norm_layer(config, channels, spatial)
    assert str(caught.value) == (
        f"model.kind=conv: norm={norm} cannot stand there.\n  got: {reason}\n  fix: choose another norm."
    )


def test_the_table_has_a_norm_for_every_name_of_the_config() -> None:
    assert list(NORMS) == ["none", "batch", "layer", "group", "instance", "rms"]


def test_a_channel_rms_norm_of_vectors_is_that_of_torch() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ChannelRMSNorm(8, EPS)(x), nn.RMSNorm(8, EPS)(x))
