"""Every kind of norm in the place of every other, against the formulas written out in NumPy float64."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.tolerances import TORCH
from torch import nn

from normlab.errors import InvalidInputError
from normlab.tools import swap_
from normlab.tools.norms import NORMS, ChannelRMSNorm, ChannelsLast, NoNorm
from normlab.tools.report import Skipped, Touched

EPS, GROUPS, CHANNELS = 1e-2, 2, 6
SIDES = {"NC": (), "NCL": (5,), "NCHW": (3, 4), "NCDHW": (2, 3, 2)}
BATCH = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def formula(to: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The norm over (N, C, *) with one weight and one bias a channel."""
    if to == "none":
        return x
    if to == "batch":
        sets, axes = x, (0, *range(2, x.ndim))
    else:
        groups = {"layer": 1, "rms": 1, "group": GROUPS, "instance": x.shape[1]}[to]
        sets, axes = x.reshape(len(x), groups, -1), (2,)
    mean = 0.0 if to == "rms" else sets.mean(axes, keepdims=True)
    var = ((sets - mean) ** 2).mean(axes, keepdims=True)
    channel = (1, -1, *[1] * (x.ndim - 2))
    return ((sets - mean) / np.sqrt(var + EPS)).reshape(x.shape) * weight.reshape(channel) + bias.reshape(channel)


def old_norm(kind: str, spatial: int) -> nn.Module:
    """A norm as a user writes it for (N, C, *)."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: BATCH[spatial](CHANNELS),
        "layer": lambda: nn.GroupNorm(1, CHANNELS),
        "group": lambda: nn.GroupNorm(3, CHANNELS),
        "instance": lambda: INSTANCE[spatial](CHANNELS, affine=True),
        "rms": lambda: ChannelRMSNorm(CHANNELS, 1e-5),
    }
    return makers[kind]()


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 with other weights than those that it starts with."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return 1 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def values(module: nn.Module, name: str, otherwise: float) -> np.ndarray:
    found = dict(module.named_parameters()).get(name)
    return np.full(CHANNELS, otherwise) if found is None else found.detach().numpy().copy()


def assert_near(found: torch.Tensor, expected: np.ndarray) -> None:
    """To the promised bound, relative to the largest value."""
    assert found.dtype == torch.float64
    assert np.abs(found.detach().numpy() - expected).max() <= TORCH * max(1.0, np.abs(expected).max())


CASES = [
    (one, to, layout)
    for layout in SIDES
    for one, to in itertools.permutations(NORMS, 2)
    if one != "none" and not (layout == "NC" and "instance" in (one, to))
]


@pytest.mark.parametrize(("one", "to", "layout"), CASES, ids=str)
def test_a_swapped_norm_is_the_formula_with_the_weights_of_the_old_one(one: str, to: str, layout: str) -> None:
    model = nn.Sequential(drawn(old_norm(one, len(SIDES[layout]))))
    weight, bias = values(model[0], "weight", 1), values(model[0], "bias", 0)
    x = numbers(4, CHANNELS, *SIDES[layout])
    report = swap_(model, to, example=x, eps=EPS, groups=GROUPS)
    assert [each.name for each in report.touched] == ["0"]
    assert not report.skipped
    if to == "rms":
        bias = np.zeros(CHANNELS)
    assert_near(model(x), formula(to, x.numpy(), weight, bias))


@pytest.mark.parametrize("to", ["batch", "layer", "group", "instance", "rms", "none"])
@pytest.mark.parametrize("one", ["layer", "rms"])
@pytest.mark.parametrize("shape", [(4, 5, CHANNELS), (4, 3, 2, CHANNELS), (4, 2, 3, 2, CHANNELS)], ids=str)
def test_a_norm_over_the_last_dimension_is_swapped_with_the_channels_there(
    one: str, to: str, shape: tuple[int, ...]
) -> None:
    model = nn.Sequential(drawn((nn.LayerNorm if one == "layer" else nn.RMSNorm)(CHANNELS)))
    weight, bias = values(model[0], "weight", 1), values(model[0], "bias", 0)
    x = numbers(*shape)
    report = swap_(model, to, example=x, eps=EPS, groups=GROUPS)
    if one == to:
        assert report.skipped == (
            Skipped("0", f"{type(model[0]).__name__}(6)", f"it is {to} norm as it is", same=True),
        )
        return
    if to == "rms":
        bias = np.zeros(CHANNELS)
    if to in ("layer", "rms"):  # each position by itself, as it was
        flat = formula(to, x.numpy().reshape(-1, CHANNELS), weight, bias)
        assert isinstance(model[0], nn.LayerNorm if to == "layer" else nn.RMSNorm)
        assert_near(model(x), flat.reshape(shape))
        return
    expected = formula(to, np.moveaxis(x.numpy(), -1, 1), weight, bias)
    found = model(x)
    assert_near(found, np.moveaxis(expected, 1, -1))
    assert found.is_contiguous()  # as that of the old layer was: what follows may take a view


@pytest.mark.parametrize("to", ["batch", "group", "instance"])
def test_samples_in_the_second_dimension_are_found_and_not_mixed(to: str) -> None:
    """As PyTorch's transformers have it by default: (L, N, C)."""

    class SequenceFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = drawn(nn.LayerNorm(CHANNELS))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x.transpose(0, 1)).transpose(0, 1)

    model = SequenceFirst()
    weight, bias = values(model.norm, "weight", 1), values(model.norm, "bias", 0)
    x = numbers(4, 5, CHANNELS)
    swap_(model, to, example=x, eps=EPS, groups=GROUPS)
    expected = formula(to, np.moveaxis(x.numpy(), -1, 1), weight, bias)
    assert_near(model(x), np.moveaxis(expected, 1, -1))
    assert model.norm.samples == 1


@pytest.mark.parametrize("to", ["batch", "group", "instance", "rms"])
@pytest.mark.parametrize("sides", [(5,), (3, 4), (2, 3, 2)], ids=str)
def test_a_layer_norm_over_whole_samples_has_its_channels_first(to: str, sides: tuple[int, ...]) -> None:
    """Its weight has one value a position, which has no place in one with a value a channel."""
    model = nn.Sequential(drawn(nn.LayerNorm((CHANNELS, *sides))))
    x = numbers(4, CHANNELS, *sides)
    (swapped,) = swap_(model, to, example=x, eps=EPS, groups=GROUPS).touched
    assert swapped.change.endswith("; its trained weight and bias found no place there")
    assert_near(model(x), formula(to, x.numpy(), np.ones(CHANNELS), np.zeros(CHANNELS)))


def test_a_batch_norm_that_comes_in_starts_with_untouched_statistics() -> None:
    model = nn.Sequential(drawn(nn.GroupNorm(3, CHANNELS))).eval()
    weight, bias = values(model[0], "weight", 1), values(model[0], "bias", 0)
    x = numbers(4, CHANNELS, 5)
    swap_(model, "batch", example=x, eps=EPS, momentum=0.25)
    expected = x.numpy() / np.sqrt(1 + EPS) * weight[:, None] + bias[:, None]
    assert_near(model(x), expected)
    assert (model[0].momentum, model[0].eps, int(model[0].num_batches_tracked)) == (0.25, EPS, 0)


def test_a_model_is_swapped_again_and_again() -> None:
    """The weight goes along from each to the next, until there is no norm any more."""
    model = nn.Sequential(drawn(nn.BatchNorm2d(CHANNELS)), nn.Flatten(2), drawn(nn.LayerNorm(12)))
    weights = [model[place].weight.detach().clone() for place in (0, 2)]
    x = numbers(4, CHANNELS, 3, 4)
    types = []
    for to in ("group", "layer", "rms", "instance"):
        assert not swap_(model, to, example=x, groups=GROUPS).skipped
        norms = [each.norm if isinstance(each, ChannelsLast) else each for each in (model[0], model[2])]
        types.append([type(norm).__name__ for norm in norms])
        assert all(torch.equal(norm.weight, weight) for norm, weight in zip(norms, weights, strict=True))
    assert types == [
        ["GroupNorm", "GroupNorm"],
        ["GroupNorm", "LayerNorm"],
        ["ChannelRMSNorm", "RMSNorm"],
        ["InstanceNorm2d", "InstanceNorm1d"],
    ]
    assert len(swap_(model, "none").touched) == 2
    assert torch.equal(model(x), x.flatten(2))
    report = swap_(model, "batch", example=x)
    assert [(each.layer, each.reason) for each in report.skipped] == [("NoNorm", "there is no norm to replace")] * 2


def test_norms_moved_to_the_last_dimension_are_swapped_a_second_time() -> None:
    model = nn.Sequential(drawn(nn.LayerNorm(CHANNELS)))
    weight, bias = values(model[0], "weight", 1), values(model[0], "bias", 0)
    x = numbers(4, 5, CHANNELS)
    moved = np.moveaxis(x.numpy(), -1, 1)
    for to in ("batch", "group", "instance", "batch"):
        (swapped,) = swap_(model, to, example=x, eps=EPS, groups=GROUPS).touched
        assert_near(model(x), np.moveaxis(formula(to, moved, weight, bias), 1, -1))
    assert (swapped.layer, swapped.change) == (
        "InstanceNorm1d(6) over the last dimension",
        "to BatchNorm1d(6) over the last dimension",
    )
    swap_(model, "layer", eps=EPS)  # which is over the last dimension however many there are: no example is needed
    assert_near(model(x), formula("layer", x.numpy().reshape(-1, CHANNELS), weight, bias).reshape(x.shape))


def test_one_group_is_layer_norm() -> None:
    model = nn.Sequential(nn.GroupNorm(1, 8), nn.GroupNorm(4, 8))
    report = swap_(model, "layer", example=torch.zeros(2, 8, 3))
    assert report.skipped == (
        Skipped("0", "GroupNorm(1, 8), which is layer norm", "it is layer norm as it is", same=True),
    )
    assert report.touched == (Touched("1", "GroupNorm(4, 8)", "to GroupNorm(1, 8), which is layer norm"),)
    swap_(model, "group", example=torch.zeros(2, 8, 3), groups=4)
    assert [each.num_groups for each in model] == [4, 4]


@pytest.mark.parametrize("to", ["batch", "layer", "group", "instance"])
@pytest.mark.parametrize(
    ("old", "names"),
    [
        (nn.BatchNorm2d(8), {"weight", "bias"}),
        (nn.BatchNorm2d(8, affine=False), set()),
        (nn.BatchNorm2d(8, bias=False), {"weight"}),
        (nn.GroupNorm(2, 8, affine=False), set()),
        (nn.LayerNorm((8, 3, 3), bias=False), {"weight"}),
        (nn.LayerNorm((8, 3, 3), elementwise_affine=False), set()),
        (nn.InstanceNorm2d(8), set()),
        (nn.RMSNorm((8, 3, 3)), {"weight", "bias"}),  # rms norm never has a bias; the others do unless it is left out
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),  # a set has no order
)
def test_weight_and_bias_are_there_if_they_were(old: nn.Module, names: set[str], to: str) -> None:
    model = nn.Sequential(old, nn.Flatten(), nn.Linear(72, 2))
    before = {name for name, _ in old.named_parameters()}
    report = swap_(model, to, example=torch.randn(3, 8, 3, 3), groups=2)
    after = {name for name, _ in model[0].named_parameters()}
    assert after == (before if report.skipped else names)
    model(torch.randn(3, 8, 3, 3))


def test_the_affine_weights_of_rms_norm_are_one_a_channel() -> None:
    model = nn.Sequential(nn.BatchNorm2d(8, affine=False), nn.Flatten(), nn.LayerNorm(72, elementwise_affine=False))
    swap_(model, "rms", example=torch.zeros(2, 8, 3, 3))
    assert not list(model.parameters())
    assert repr(model[0]) == "ChannelRMSNorm(8, eps=1e-05, affine=False)"
    swap_(model, "layer", example=torch.zeros(2, 8, 3, 3))
    assert (model[0].num_channels, model[2].normalized_shape) == (8, (72,))


def test_mode_dtype_and_what_is_frozen_are_handed_over() -> None:
    model = nn.Sequential(
        nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.LayerNorm(8, elementwise_affine=False), nn.RMSNorm(8)
    ).double()
    model[0].eval().weight.requires_grad_(False)
    model[1].requires_grad_(False)
    model[3].requires_grad_(False)
    for to in ("layer", "batch"):
        swap_(model, to, example=torch.zeros(3, 8, dtype=torch.float64))
        assert [each.training for each in model] == [False, True, True, True]
        assert [each.requires_grad for each in model[0].parameters()] == [False, True]
        assert not any(each.requires_grad for each in [*model[1].parameters(), *model[3].parameters()])
        assert len(list(model[3].parameters())) == 2
    floats = [each.dtype for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()]
    assert set(floats) == {torch.float64}
    assert isinstance(model[2], nn.BatchNorm1d)
    assert model(torch.randn(3, 8, dtype=torch.float64)).dtype == torch.float64


def test_a_shared_norm_stays_shared() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = self.other = nn.BatchNorm1d(8)
            self.more = nn.ModuleDict({"a": self.one, "keys_": nn.ModuleList([self.one, nn.BatchNorm1d(8)])})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.more["keys_"][1](self.other(self.one(x)) + self.more["a"](x))

    model = Twice()
    report = swap_(model, "group", example=torch.zeros(2, 8), groups=2)
    assert [each.name for each in report.touched] == ["one", "more.keys_.1"]
    assert model.one is model.other is model.more["a"] is model.more["keys_"][0]
    assert isinstance(model.one, nn.GroupNorm)
    assert model.more["keys_"][1] is not model.one
    assert len(list(model.parameters())) == 4


def test_what_had_been_learned_and_has_no_place_is_named() -> None:
    model = nn.Sequential(drawn(nn.BatchNorm1d(8)), nn.BatchNorm1d(8).double())
    report = swap_(model, "rms", example=torch.zeros(2, 8, dtype=torch.float64))
    assert [each.change for each in report.touched] == [
        "to RMSNorm(8); its trained bias found no place there",
        "to RMSNorm(8)",
    ]
    assert str(report).splitlines()[0] == "2 of 2 norm layers swapped to rms norm"


def test_no_norm_lets_everything_through() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    assert swap_(model, "none").touched == (Touched("0", "BatchNorm2d(3)", "to NoNorm"),)
    assert isinstance(model[0], NoNorm)
    x = torch.randn(2, 3, 4, 4)
    assert model(x) is x


def test_settings_out_of_range_are_said_all_at_once() -> None:
    model = nn.Sequential(nn.BatchNorm1d(6))
    with pytest.raises(InvalidInputError) as raised:
        swap_(model, None, eps=-1, momentum=5, groups=0)
    assert str(raised.value) == (
        "swap_: `to` must be a norm.\n  got: None\n"
        "  fix: choose one of: none, batch, layer, group, instance, rms.\n"
        "swap_: `eps` must be a finite number that is not negative.\n  got: eps = -1\n  fix: pass 1e-5.\n"
        "swap_: `momentum` must be a number from 0 to 1.\n  got: momentum = 5\n  fix: pass 0.1.\n"
        "swap_: `groups` must be a whole number, at least 1.\n  got: groups = 0\n  fix: pass 8."
    )
    for wrong in ({"eps": "a"}, {"eps": float("nan")}, {"groups": "x"}, {"groups": -1}, {"groups": 2.0}):
        with pytest.raises(InvalidInputError, match=f"`{next(iter(wrong))}` must be"):
            swap_(model, "group", **wrong)
    assert type(model[0]) is nn.BatchNorm1d
