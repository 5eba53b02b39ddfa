from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from normlab.lab.config import Init, Model, RunConfig
from normlab.lab.data import Dataset, curve, digits
from normlab.lab.models import build_model
from normlab.lab.models.block import Block

KINDS = ("mlp", "conv")
WITH_NORM = [("mlp", norm) for norm in ("batch", "layer", "group", "rms")]
WITH_NORM += [("conv", norm) for norm in ("batch", "layer", "group", "instance", "rms")]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(0)


def weights(model: nn.Module) -> Iterator[nn.Linear | nn.Conv2d]:
    return (layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))


def count(config: RunConfig, data: Dataset) -> int:
    return sum(parameter.numel() for parameter in build_model(config, data).parameters())


def test_an_mlp_has_the_parameters_counted_by_hand(data: Dataset) -> None:
    # 64 → 8 → 8 → 8 → 10
    plain = (64 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 10 + 10)
    assert count(RunConfig(model=Model(depth=3, width=8)), data) == plain == 754
    assert count(RunConfig(model=Model(depth=3, width=8), norm="batch"), data) == plain + 3 * 16
    assert count(RunConfig(model=Model(depth=3, width=8), norm="rms"), data) == plain + 3 * 8
    normed = RunConfig(model=Model(depth=3, width=8, input_norm=True), norm="batch")
    assert count(normed, data) == plain + 3 * 16 + 128


def test_a_conv_net_has_the_parameters_counted_by_hand(data: Dataset) -> None:
    # 3 × 3 kernels: 1 → 8 → 8 channels, then the mean over positions → 10
    plain = (9 * 8 + 8) + (9 * 8 * 8 + 8) + (8 * 10 + 10)
    assert count(RunConfig(model=Model(kind="conv", depth=2, width=8)), data) == plain == 754
    assert count(RunConfig(model=Model(kind="conv", depth=2, width=8), norm="group"), data) == plain + 2 * 16


def test_the_net_of_the_curve_takes_one_number_and_gives_one() -> None:
    model = build_model(RunConfig(data="curve", model=Model(depth=8, width=10)), curve(0))
    assert sum(parameter.numel() for parameter in model.parameters()) == (10 + 10) + 7 * 110 + 11
    assert model(torch.zeros(5, 1)).shape == (5, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_weights_norm_activation(kind: str, data: Dataset) -> None:
    config = RunConfig(model=Model(kind=kind, depth=2, width=8, activation="sigmoid", input_norm=True), norm="batch")
    model = build_model(config, data)
    assert [name for name, module in model.named_modules() if isinstance(module, Block)] == [
        "input",
        "layer1",
        "layer2",
    ]
    first, block = model.get_submodule("input"), model.get_submodule("layer2")
    assert (first.weights, first.activation) == (None, None)
    x = torch.randn(4, 8, *([5, 5] if kind == "conv" else []), generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), torch.sigmoid(block.norm(block.weights(x))))
    assert model(torch.from_numpy(data.x_test[:3])).shape == (3, 10)


@pytest.mark.parametrize(("kind", "norm"), WITH_NORM)
def test_variants_of_one_seed_start_from_the_same_bits(kind: str, norm: str, data: Dataset) -> None:
    shape = Model(kind=kind, depth=2, width=8)
    bare = build_model(RunConfig(model=shape, seed=3), data)
    torch.manual_seed(1)  # nothing is drawn from the global stream
    other = build_model(RunConfig(model=shape, seed=3, norm=norm, norm_groups=4), data)
    pairs = list(zip(weights(bare), weights(other), strict=True))
    assert len(pairs) == 3
    for mine, theirs in pairs:
        assert torch.equal(mine.weight, theirs.weight)
        assert torch.equal(mine.bias, theirs.bias)


def test_another_seed_starts_elsewhere(data: Dataset) -> None:
    pairs = zip(*(weights(build_model(RunConfig(seed=seed), data)) for seed in (0, 1)), strict=True)
    assert not any(torch.equal(mine.weight, theirs.weight) for mine, theirs in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_normal_and_biases_constant(kind: str, data: Dataset) -> None:
    config = RunConfig(model=Model(kind=kind, depth=3, width=64), init=Init(weight_std=0.5, bias=-0.25))
    layers = list(weights(build_model(config, data)))
    values = torch.cat([layer.weight.flatten() for layer in layers]).detach().double().numpy() / 0.5
    n = len(values)
    # five standard errors of the moments of N(0, 1): 1/√n, 1/√(2n), and √(96/n) of the fourth
    assert abs(values.mean()) < 5 / np.sqrt(n)
    assert abs(values.std() - 1) < 5 / np.sqrt(2 * n)
    assert abs((values**4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert len(np.unique(values)) > 0.99 * n  # no layer repeats another
    assert all(torch.equal(layer.bias, torch.full_like(layer.bias, -0.25)) for layer in layers)


def test_no_spread_is_possible(data: Dataset) -> None:
    model = build_model(RunConfig(init=Init(weight_std=0.0)), data)
    assert not any(layer.weight.any() for layer in weights(model))
