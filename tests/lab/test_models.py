"""What a network starts from, and that it learns."""

import itertools
import math

import numpy as np
import pytest
import torch
from tests.lab.networks import TINY, built, random_data, tiny, weights
from torch import nn

from normlab import errors
from normlab.lab.config import Init, Model, RunConfig
from normlab.lab.data import Dataset, digits
from normlab.lab.models import build_model

NORMS = ("batch", "layer", "group", "instance", "rms")
WITH_NORM = [(kind, norm) for kind, norm in itertools.product(TINY, NORMS) if (kind, norm) != ("mlp", "instance")]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(0)


@pytest.mark.parametrize(("kind", "norm"), WITH_NORM)
def test_variants_of_one_seed_start_from_the_same_bits(kind: str, norm: str) -> None:
    bare = built(tiny(kind, seed=3))
    torch.manual_seed(1)  # nothing is drawn from the global stream
    other = built(tiny(kind, norm, seed=3))
    pairs = list(zip(weights(bare), weights(other), strict=True))
    assert len(pairs) == {"mlp": 3, "conv": 3, "lenet": 4, "resnet": 8, "densenet": 10, "volumes": 3}[kind]
    for mine, theirs in pairs:
        assert torch.equal(mine.weight, theirs.weight)
        assert (mine.bias is None) == (theirs.bias is None)
        assert mine.bias is None or torch.equal(mine.bias, theirs.bias)


@pytest.mark.parametrize(("kind", "norm"), [*WITH_NORM, *((kind, "none") for kind in TINY)])
def test_every_norm_learns_in_every_kind(kind: str, norm: str) -> None:
    config = tiny(kind, norm, model={"bias": False}, init=Init(scheme="he"))
    data = random_data(config.data)
    model = build_model(config, data)
    x = torch.from_numpy(data.x_train).requires_grad_()
    output = model(x)
    assert output.shape == (6, data.outputs)
    output.backward(torch.randn(output.shape, generator=torch.Generator().manual_seed(0)))
    for name, values in [("x", x), *model.named_parameters()]:
        assert values.grad is not None, name
        assert values.grad.isfinite().all(), name
        assert values.grad.any(), name


def test_another_seed_starts_elsewhere(data: Dataset) -> None:
    pairs = zip(*(weights(build_model(RunConfig(seed=seed), data)) for seed in (0, 1)), strict=True)
    assert not any(torch.equal(mine.weight, theirs.weight) for mine, theirs in pairs)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
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


@pytest.mark.parametrize("kind", list(TINY))
def test_the_scheme_of_he_has_the_variance_two_over_fan_in(kind: str) -> None:
    config = tiny(kind, init=Init(scheme="he", bias=0.5), model={"width": 32, "growth": 16})
    for layer in weights(built(config)):
        # what a unit sums over: its inputs, times the positions of a kernel
        inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels * math.prod(layer.kernel_size)
        values = layer.weight.detach().double().numpy() / np.sqrt(2 / inputs)
        assert abs(values.mean()) < 5 / np.sqrt(values.size)
        assert abs(values.std() - 1) < 5 / np.sqrt(2 * values.size)
        assert layer.bias is None or torch.equal(layer.bias, torch.full_like(layer.bias, 0.5))


@pytest.mark.parametrize("kind", list(TINY))
def test_both_dtypes_start_from_the_same_numbers(kind: str) -> None:
    config = tiny(kind, "batch", model={"dropout": 0.5})
    single, double = built(config).state_dict(), built(config.model_copy(update={"dtype": "float64"})).state_dict()
    assert single.keys() == double.keys()
    for name, values in double.items():
        counter = name.endswith(("steps", "num_batches_tracked"))
        assert values.dtype == (torch.int64 if counter else torch.float64)
        assert torch.equal(values, single[name].to(values.dtype))


@pytest.mark.parametrize(
    ("kind", "shape", "text"),
    [
        (
            "lenet",
            (1, 3, 8),
            "model.kind=lenet: images must be at least 4 × 4, since they are pooled twice.\n"
            "  got: samples of shape (1, 3, 8)\n"
            "  fix: use model.kind=conv.",
        ),
        (
            "densenet",
            (1, 8, 3),
            "model.kind=densenet: images must be at least 4 × 4, since their sides are halved twice.\n"
            "  got: samples of shape (1, 8, 3)\n"
            "  fix: use model.kind=resnet.",
        ),
        (
            "conv",
            (5, 8),
            "model.kind=conv: samples must have 3 dimensions, the channels and 2 of positions.\n"
            "  got: samples of shape (5, 8)\n"
            "  fix: use model.kind=mlp.",
        ),
    ],
)
def test_samples_that_a_network_cannot_take_are_refused(kind: str, shape: tuple[int, ...], text: str) -> None:
    x, y = np.zeros((4, *shape), np.float32), np.zeros(4, np.int64)
    config = tiny(kind).model_copy(update={"data": "my.py:load"})
    with pytest.raises(errors.UsageError) as caught:
        build_model(config, Dataset("my.py:load", "classification", x, y, x, y, 2))
    assert str(caught.value) == text
