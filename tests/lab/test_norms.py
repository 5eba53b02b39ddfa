"""The table of norms against the formulas, written out in NumPy float64."""

import numpy as np
import pytest
import torch
from torch import nn

from normlab.lab.config import Model, RunConfig
from normlab.lab.norms import NORMS, ChannelRMSNorm, norm_layer

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
CASES += [(name, (5, 8, 3, 2)) for name in ("batch", "layer", "group", "instance", "rms")]


@pytest.mark.parametrize(("name", "shape"), CASES, ids=str)
def test_a_norm_is_its_formula(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(1, 2, shape).astype(np.float32).astype(np.float64), rng.normal(size=8)
    bias = np.zeros(8) if name == "rms" else rng.normal(size=8)
    kind = "mlp" if len(shape) == 2 else "conv"
    config = RunConfig(norm=name, norm_eps=EPS, norm_groups=GROUPS, model=Model(kind=kind, width=8))
    layer = norm_layer(config, 8, spatial=len(shape) - 2)
    assert layer is not None
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), (weight, bias), strict=False):
            parameter.copy_(torch.tensor(value))
        found = layer(torch.tensor(x, dtype=torch.float32)).numpy()
    expected = formula(name, x, weight, bias)
    assert np.abs(expected).max() < 8
    assert np.abs(found - expected).max() < BOUND


@pytest.mark.parametrize("spatial", [0, 2])
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


@pytest.mark.parametrize("spatial", [0, 2])
def test_the_settings_of_batch_norm_arrive(spatial: int) -> None:
    layer = norm_layer(RunConfig(norm="batch", norm_eps=0.25, norm_momentum=0.75), 3, spatial)
    assert isinstance(layer, nn.BatchNorm2d if spatial else nn.BatchNorm1d)
    assert (layer.num_features, layer.eps, layer.momentum) == (3, 0.25, 0.75)
    assert layer.track_running_stats


def test_the_table_has_a_norm_for_every_name_of_the_config() -> None:
    assert list(NORMS) == ["none", "batch", "layer", "group", "instance", "rms"]


def test_a_channel_rms_norm_of_vectors_is_that_of_torch() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ChannelRMSNorm(8, EPS)(x), nn.RMSNorm(8, EPS)(x))
