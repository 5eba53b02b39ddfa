"""The networks against the papers: their size, their places, and one of each part worked out directly."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from tests.lab.networks import CLOSE, TINY, WEIGHTS, built, random_data, tiny
from torch import nn
from torch.nn import functional

from normlab.lab.config import Model, RunConfig
from normlab.lab.data import Dataset, curve, digits
from normlab.lab.models import MODELS, build_model
from normlab.lab.models.block import Block
from normlab.lab.models.densenet import DenseLayer
from normlab.lab.models.resnet import Unit
from normlab.lab.models.seeded_dropout import SeededDropout


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(0)


def count(config: RunConfig, data: Dataset) -> int:
    return sum(parameter.numel() for parameter in build_model(config, data).parameters())


def counted(config: RunConfig) -> int:
    return sum(parameter.numel() for parameter in built(config).parameters())


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


def test_a_lenet_has_the_parameters_counted_by_hand() -> None:
    # the digits network of many tutorials: 5 × 5 kernels, 28 → 14 → 7 positions a side, 1,024 hidden units
    plain = (25 * 32 + 32) + (25 * 32 * 64 + 64) + (7 * 7 * 64 * 1024 + 1024) + (1024 * 10 + 10)
    config = RunConfig(data="mnist=nowhere", model=Model(kind="lenet", width=32))
    assert counted(config) == plain == 3_274_634
    assert counted(config.model_copy(update={"norm": "batch"})) == plain + 2 * (32 + 64)


def test_a_resnet_has_the_parameters_of_the_paper() -> None:
    # He et al. 2015, table 6: 0.27 M; each stage has six convolutions, the first of the later ones doubles the channels
    convolutions = 9 * 3 * 16 + 6 * 9 * 16**2 + (9 * 16 * 32 + 5 * 9 * 32**2) + (9 * 32 * 64 + 5 * 9 * 64**2)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    config = RunConfig(data="cifar10=nowhere", model=Model(kind="resnet", depth=20, width=16), norm="batch")
    assert counted(config) == convolutions + norms + (64 * 10 + 10) == 269_722
    assert counted(config.model_copy(update={"norm": "none"})) == convolutions + 650


def test_a_densenet_has_the_parameters_of_the_paper() -> None:
    # Huang et al. 2017, table 2: DenseNet-BC of 100 layers with k = 12 has 0.8 M; 769,162 in the authors' code
    k, channels, total = 12, 24, 9 * 3 * 24
    for block in range(3):
        for _ in range(16):
            total += 2 * channels + channels * 4 * k + 2 * 4 * k + 9 * 4 * k * k
            channels += k
        if block < 2:
            total += 2 * channels + channels * channels // 2
            channels //= 2
    assert channels == 342
    config = RunConfig(data="cifar10=nowhere", model=Model(kind="densenet", depth=100, growth=12), norm="batch")
    assert counted(config) == total + 2 * 342 + (342 * 10 + 10) == 769_162


def test_a_net_for_volumes_has_the_parameters_counted_by_hand() -> None:
    plain = (27 * 4 + 4) + (27 * 4 * 8 + 8) + (27 * 8 * 16 + 16) + (16 * 4 + 4)
    config = tiny("volumes", model={"depth": 3})
    assert counted(config) == plain
    assert counted(config.model_copy(update={"norm": "batch"})) == plain + 2 * (4 + 8 + 16)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
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


def test_the_places_have_readable_names() -> None:
    units = [f"stage{stage}.unit1.{part}" for stage in (1, 2, 3) for part in ("first", "second", "sum")]
    dense = [[f"block{block}.layer1.{part}" for part in ("bottleneck", "growth")] for block in (1, 2, 3)]
    expected = {
        "mlp": ["layer1", "layer2"],
        "conv": ["layer1", "layer2"],
        "lenet": ["layer1", "layer2", "layer3"],
        "resnet": ["stem", *units],
        "densenet": [*dense[0], "transition1", *dense[1], "transition2", *dense[2], "last"],
        "volumes": ["layer1", "layer2"],
    }
    found = {
        kind: [name for name, module in built(tiny(kind)).named_modules() if isinstance(module, Block)]
        for kind in MODELS
    }
    assert found == expected


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "cifar100"])
@pytest.mark.parametrize("kind", ["conv", "lenet", "resnet", "densenet"])
def test_images_of_any_size_are_taken(kind: str, name: str) -> None:
    data = random_data(name)
    model = build_model(tiny(kind, "batch"), data)
    assert model(torch.from_numpy(data.x_train)).shape == (6, data.outputs)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_layer_before_a_norm_has_no_bias_if_the_settings_say_so(norm: str) -> None:
    with_bias = {
        (kind, bias): [
            name for name, layer in built(tiny(kind, norm, model={"bias": bias})).named_modules()
            if isinstance(layer, WEIGHTS) and layer.bias is not None
        ]
        for kind in MODELS
        for bias in (True, False)
    }  # fmt: skip
    two = ["layer1.weights", "layer2.weights", "output"]
    assert with_bias == {
        ("mlp", True): two,
        ("mlp", False): ["output"],
        ("conv", True): two,
        ("conv", False): ["output"],
        ("lenet", True): ["layer1.weights", "layer2.weights", "layer3.weights", "output"],
        ("lenet", False): ["layer3.weights", "output"],  # no norm follows layer 3
        ("resnet", True): ["output"],
        ("resnet", False): ["output"],
        ("densenet", True): ["output"],
        ("densenet", False): ["output"],
        ("volumes", True): two,
        ("volumes", False): ["output"],
    }


def unit(inputs: int, channels: int) -> Unit:
    """A unit in float64 with weights and norms of every size."""
    settings = Model(kind="resnet", depth=8, activation="relu")
    found = Unit(inputs, channels, nn.BatchNorm2d, settings).double()
    return randomized(found)


def randomized(module: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Batch norm in train mode, from the definition."""
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


@pytest.mark.parametrize("side", [6, 5])
def test_a_unit_that_doubles_its_channels_is_its_formula(side: int) -> None:
    wide = unit(3, 6)
    x = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    half = (side + 1) // 2
    shortcut = np.zeros((4, 6, half, half))  # every second position; the three new channels are zero
    for row, column in itertools.product(range(half), repeat=2):
        shortcut[:, :3, row, column] = x[:, :, 2 * row, 2 * column]
    inner = normed(wide.first.norm, functional.conv2d(x, wide.first.weights.weight, stride=2, padding=1)).clamp(min=0)
    inner = normed(wide.second.norm, functional.conv2d(inner, wide.second.weights.weight, padding=1))
    expected = (torch.from_numpy(shortcut) + inner).clamp(min=0)
    assert (wide(x) - expected).abs().max() < CLOSE


def test_a_unit_of_equal_channels_passes_its_input_on() -> None:
    same = unit(4, 4)
    with torch.no_grad():
        same.second.norm.weight.zero_()
        same.second.norm.bias.zero_()
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(same(x), x.clamp(min=0))


def test_a_dense_layer_is_its_formula() -> None:
    settings = Model(kind="densenet", depth=10, growth=2, activation="relu")
    layer = randomized(DenseLayer(3, nn.BatchNorm2d, settings).double())
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, second = layer.bottleneck, layer.growth
    assert first.weights.weight.shape == (8, 3, 1, 1)
    inner = torch.einsum("nchw,dc->ndhw", normed(first.norm, x).clamp(min=0), first.weights.weight[:, :, 0, 0])
    inner = functional.conv2d(normed(second.norm, inner).clamp(min=0), second.weights.weight, padding=1)
    found = layer(x)
    assert torch.equal(found[:, :3], x)
    assert (found[:, 3:] - inner).abs().max() < CLOSE


@pytest.mark.parametrize(
    ("kind", "name", "sides"),
    [
        ("lenet", "layer2", (4, 4)),
        ("lenet", "layer3", ()),
        ("resnet", "stage1", (8, 8)),
        ("resnet", "stage3", (2, 2)),
        ("densenet", "block1", (8, 8)),
        ("densenet", "last", (2, 2)),
        ("volumes", "layer1", (16, 16, 16)),
        ("volumes", "layer2", (8, 8, 8)),
    ],
)
def test_positions_become_fewer_where_the_papers_say(kind: str, name: str, sides: tuple[int, ...]) -> None:
    config = tiny(kind)
    data, seen = random_data(config.data), []
    model = build_model(config, data)
    model.get_submodule(name).register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
    model(torch.from_numpy(data.x_train))
    assert seen == [sides]


def test_a_leaky_relu_has_the_slope_of_the_source() -> None:
    block = Block(None, None, "leaky_relu")
    assert torch.equal(block(torch.tensor([-2.0, 0.0, 3.0])), torch.tensor([-0.4, 0.0, 3.0]))


def test_without_dropout_there_is_no_layer_of_it() -> None:
    assert not [module for kind in TINY for module in built(tiny(kind)).modules() if isinstance(module, SeededDropout)]


def test_dropout_stands_where_the_papers_have_it() -> None:
    found = {
        kind: [
            name
            for name, module in built(tiny(kind, model={"dropout": 0.25})).named_modules()
            if isinstance(module, SeededDropout)
        ]
        for kind in TINY
    }
    dense = [[f"block{block}.layer1.{part}.dropout" for part in ("bottleneck", "growth")] for block in (1, 2, 3)]
    two = ["layer1.dropout", "layer2.dropout"]
    assert found == {
        "mlp": two,
        "conv": two,
        "lenet": ["layer3.dropout"],
        "resnet": [f"stage{stage}.unit1.first.dropout" for stage in (1, 2, 3)],
        "densenet": [*dense[0], "transition1.dropout", *dense[1], "transition2.dropout", *dense[2]],
        "volumes": two,
    }
