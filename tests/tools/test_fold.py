"""A folded model puts out what it did: for every layer, in float64 and float32, and by hand."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tolerances import FOLD, FOLD_FLOAT32, ROUNDINGS, TORCH
from torch import nn

from normlab import layers
from normlab.tools.fold import fold_
from normlab.tools.freeze import freeze_
from normlab.tools.norms import ChannelsLast

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are several times faster so when both cores run tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(model: nn.Module, seed: int, mean: float = 0.0) -> nn.Module:
    """Running statistics and weights as after training, in float64; variances over several orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.modules.batchnorm._NormBase) and each.running_mean is not None:
                each.running_mean.normal_(mean, 2.0, generator=generator)
                each.running_var.copy_(torch.randn(each.num_features, generator=generator).exp())
        for name, each in model.named_parameters():
            if each.ndim == 1:
                each.normal_(generator=generator)
            else:
                each.normal_(0, 1 / math.sqrt(max(each.numel() // max(each.shape), 1)), generator=generator)
            assert "weight" in name or "bias" in name
    return model


def numbers(*shape: int, seed: int = 1, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max())


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(x).clone()


def on_the_way(model: nn.Module, x: torch.Tensor) -> float:
    """How large the numbers are that are added up, of which little may be left in the output."""
    sizes = copy.deepcopy(model)
    with torch.no_grad():
        for each in (*sizes.parameters(), *sizes.buffers()):
            each.abs_()
    return float(run(sizes, x.abs()).abs().max())


def assert_folded(model: nn.Module, x: torch.Tensor, bound: float, **settings: Any) -> None:
    """Every norm is gone, and the output is what it was, to a bound relative to the numbers that it is the sum of."""
    expected = run(model, x)
    report = fold_(model, x, **settings)
    assert not report.skipped, report
    assert not [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._NormBase)]
    found = relative(run(model, x), expected)
    assert found <= bound * max(1.0, on_the_way(model, x) / float(expected.abs().max()))
    assert report.error is not None
    assert math.isclose(report.error, found, rel_tol=1e-6, abs_tol=1e-30)


@st.composite
def weight_layers(draw: st.DrawFn, out: int | None = None, padding: bool = True) -> tuple[nn.Module, tuple[int, ...]]:
    """A linear or (transposed) convolution layer, and a shape that goes in."""
    spatial = draw(st.integers(0, 3))
    bias = draw(st.booleans())
    if spatial == 0:
        into, out = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        return nn.Linear(into, out, bias=bias), (3, into)
    groups = draw(st.integers(1, 3))
    into, out = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    each = {name: draw(st.integers(1, most)) for name, most in (("kernel_size", 3), ("stride", 2), ("dilation", 2))}
    sides = [draw(st.integers(1, 2)) + each["dilation"] * (each["kernel_size"] - 1) for _ in range(spatial)]
    shape = (draw(st.integers(1, 2)), into, *sides)
    if padding and draw(st.booleans()):
        more = draw(st.integers(0, each["stride"] - 1))
        crop = draw(st.integers(0, min(1, each["dilation"] * (each["kernel_size"] - 1) // 2)))
        return TRANSPOSED[spatial](
            into, out, groups=groups, bias=bias, output_padding=more, padding=crop, **each
        ), shape
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    width = draw(st.integers(0, min(1, min(sides) - 1))) if padding or mode != "zeros" else 0
    return CONV[spatial](into, out, groups=groups, bias=bias, padding=width, padding_mode=mode, **each), shape


def channels(layer: nn.Module, into: bool) -> int:
    name = ("in_" if into else "out_") + ("features" if isinstance(layer, nn.Linear) else "channels")
    return int(getattr(layer, name))


@st.composite
def norms(draw: st.DrawFn, number: int, dimensions: int) -> nn.Module:
    """A norm with running statistics for an input of so many dimensions."""
    spatial = dimensions - 2
    affine = draw(st.booleans())
    kind = draw(st.sampled_from(["batch", "sync", *(["instance"] if spatial else [])]))
    if kind == "instance":
        return INSTANCE[spatial](number, affine=affine, track_running_stats=True)
    return (nn.SyncBatchNorm if kind == "sync" else BATCH[spatial])(
        number, affine=affine, eps=draw(st.sampled_from([1e-5, 1e-2]))
    )


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 999), mean=st.sampled_from([0.0, 1e3]))
def test_a_norm_after_any_weight_layer_is_folded_to_rounding(data: st.DataObject, seed: int, mean: float) -> None:
    layer, shape = data.draw(weight_layers())
    norm = data.draw(norms(channels(layer, into=False), len(shape)))
    model = drawn(nn.Sequential(layer, norm), seed, mean)
    assert_folded(model, numbers(*shape, seed=seed), TORCH)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 999), mean=st.sampled_from([0.0, 1e3]))
def test_a_norm_before_a_layer_that_adds_no_zeros_is_folded_to_rounding(
    data: st.DataObject, seed: int, mean: float
) -> None:
    layer, shape = data.draw(weight_layers(padding=False))
    norm = data.draw(norms(channels(layer, into=True), len(shape)))
    model = drawn(nn.Sequential(norm, layer), seed, mean)
    assert_folded(model, numbers(*shape, seed=seed, mean=mean), TORCH)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # it says that it is slow
@settings(deadline=None, max_examples=40)
@given(data=st.data(), spatial=st.integers(1, 3), seed=st.integers(0, 999))
def test_a_norm_before_a_layer_that_adds_zeros_is_exact_with_a_border(
    data: st.DataObject, spatial: int, seed: int
) -> None:
    groups = data.draw(st.integers(1, 2))
    kernel = [data.draw(st.integers(1, 3)) for _ in range(spatial)]
    padding: Any = data.draw(st.sampled_from(["same", [data.draw(st.integers(0, 2)) for _ in range(spatial)]]))
    stride = 1 if padding == "same" else data.draw(st.integers(1, 2))
    dilation = data.draw(st.integers(1, 2))
    conv = CONV[spatial](2 * groups, 2 * groups, kernel, stride, padding, dilation, groups)
    model = drawn(nn.Sequential(BATCH[spatial](2 * groups), conv, BATCH[spatial](2 * groups)), seed)
    assert_folded(model, numbers(2, 2 * groups, *(6,) * spatial), TORCH, border="pad")


@settings(deadline=None, max_examples=30)
@given(data=st.data(), seed=st.integers(0, 999))
def test_a_norm_and_its_inverse_give_the_weights_back(data: st.DataObject, seed: int) -> None:
    layer, shape = data.draw(weight_layers())
    number = channels(layer, into=False)
    there, back = BATCH[len(shape) - 2](number), BATCH[len(shape) - 2](number)
    model = drawn(nn.Sequential(layer, there, back), seed)
    with torch.no_grad():  # (x − bias) / scale + mean
        scale = there.weight / (there.running_var + there.eps).sqrt()
        scale[scale.abs() < 0.1] = 0.1
        there.weight.copy_(scale * (there.running_var + there.eps).sqrt())
        back.running_mean.copy_(there.bias)
        back.weight.copy_((back.running_var + back.eps).sqrt() / scale)
        back.bias.copy_(there.running_mean)
    weight, bias = layer.weight.clone(), torch.zeros(number) if layer.bias is None else layer.bias.clone()
    assert len(fold_(model, numbers(*shape)).touched) == 2
    assert relative(layer.weight, weight) <= TORCH
    assert (
        relative(layer.bias + there.running_mean, bias + there.running_mean) <= TORCH
    )  # as large as it was on the way


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("side", ["before", "after"])
def test_float32_is_as_near_to_the_truth_as_the_layers_were(side: str, mean: float) -> None:
    layer, norm = nn.Conv2d(8, 8, 3, groups=2), nn.BatchNorm2d(8)
    order = (layer, norm) if side == "before" else (norm, layer)
    model = drawn(nn.Sequential(*order, nn.ReLU()), seed=3, mean=mean)
    x = numbers(4, 8, 9, 9, mean=mean).float()
    truth = run(model, x.double())
    model.float()
    stock = relative(run(model, x), truth)
    (touched,) = fold_(model, x).touched
    assert touched.change == f"into {order.index(layer)} {side} it"
    assert relative(run(model, x), truth) <= 2 * stock + FOLD_FLOAT32


def test_by_hand() -> None:
    """4 (2 x + 1 − 3) / 2 + 5 = 4 x + 1."""
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0))
    with torch.no_grad():
        for values, value in zip(
            (model[0].weight, model[0].bias, model[1].running_mean, model[1].running_var, *model[1].parameters()),
            (2, 1, 3, 4, 4, 5),
            strict=True,
        ):
            values.fill_(value)
    report = fold_(model, torch.ones(2, 1))
    assert (model[0].weight.item(), model[0].bias.item()) == (4, 1)
    assert repr(model) == "Sequential(\n  (0): Linear(in_features=1, out_features=1, bias=True)\n  (1): Identity()\n)"
    assert report.title() == "1 of 1 norm layer folded, largest relative error 0.0e+00"
    assert report.touched[0].change == "into 0 before it"


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (2, 4, 5, 5)),
        (nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7, affine=False)), (2, 5)),
        (nn.Sequential(nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7, bias=False)), (2, 5)),
        (nn.Sequential(nn.Linear(5, 7), ChannelsLast(nn.BatchNorm1d(7))), (2, 7, 5)),
        (nn.Sequential(ChannelsLast(nn.BatchNorm1d(7)), nn.Linear(7, 5)), (2, 7, 7)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True)), (3, 6, 6)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Identity(), nn.BatchNorm2d(4)), (2, 3, 6, 6)),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 4, 1), nn.BatchNorm2d(4)), (2, 3, 6, 6)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), (2, 3, 6, 6)),
        (nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4)), (2, 4)),
        (nn.Sequential(nn.Linear(5, 7), layers.BatchNorm1d(7, axis=-1)), (2, 7, 5)),
        (nn.Sequential(layers.BatchNorm1d(7, axis=2), nn.Linear(7, 7)), (2, 7, 7)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), layers.BatchNorm2d(4, normalize_with="running")), (2, 3, 6, 6)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), layers.InstanceNorm2d(4, track_running_stats=True)), (3, 6, 6)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), layers.GhostBatchNorm2d(4, 2), nn.Conv2d(4, 4, 1), layers.BatchRenorm2d(4)),
         (2, 3, 6, 6)),
    ],
    ids=[
        "grouped transpose", "no affine", "no bias", "channels last", "channels last before", "unbatched", "dropout",
        "both sides", "chain", "chain before", "axis", "axis before", "running", "explicit instance", "ghost, renorm",
    ],
)  # fmt: skip
def test_cases_that_others_get_wrong_or_leave_out(model: nn.Module, shape: tuple[int, ...]) -> None:
    assert_folded(drawn(model, seed=5), numbers(*shape), TORCH)


def test_a_frozen_norm_is_folded() -> None:
    model = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), seed=1)
    freeze_(model)
    assert_folded(model, numbers(2, 3, 5, 5), TORCH)


def test_a_layer_between_two_norms_is_rounded_once() -> None:
    """Not after each: its weights are those of float64 to half a unit in the last place."""
    model = drawn(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4)), seed=7)
    x = numbers(3, 4)
    model.float().double()  # so that both start from the same numbers
    exact = nn.Sequential(*(type(each)(*([4] * (1 + (type(each) is nn.Linear)))) for each in model)).double()
    exact.load_state_dict(model.state_dict())
    fold_(exact, x)
    fold_(model.float(), x.float())
    assert torch.equal(model[1].weight, exact[1].weight.float())
    assert torch.equal(model[1].bias, exact[1].bias.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float64_and_rounded_once(dtype: torch.dtype) -> None:
    model = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)), seed=9)
    model.append(nn.BatchNorm2d(4).double()).to(dtype)
    x = numbers(2, 3, 6, 6).to(dtype)
    norm, layer = model[1], model[0]
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    expected = (layer.weight.double() * scale.view(-1, 1, 1, 1)).to(dtype)
    report = fold_(model, x)
    assert torch.equal(layer.weight, expected)
    assert report.error is not None
    assert FOLD < report.error <= ROUNDINGS * torch.finfo(dtype).eps  # the tolerance makes room for it
    assert model[3].bias.dtype == dtype


def test_new_parameters_are_as_the_old_ones() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    model = drawn(model, seed=2).to(memory_format=torch.channels_last)
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    before = dict(model.named_parameters())
    values = {name: each.clone() for name, each in before.items()}
    model.train()[3].eval()
    assert len(fold_(model, numbers(2, 3, 5, 5)).touched) == 2
    after = dict(model.named_parameters())
    assert {name: each.requires_grad for name, each in after.items()} == {
        "0.weight": False, "0.bias": False, "2.weight": True, "2.bias": False,
    }  # fmt: skip
    assert all(type(each) is nn.Parameter and each.dtype == torch.float64 for each in after.values())
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert [each.training for each in model] == [True, True, True, False]
    assert all(torch.equal(each, values[name]) for name, each in before.items())  # nobody wrote into the old ones
    assert not set(map(id, before.values())) & set(map(id, after.values()))


def test_a_norm_with_several_names_is_gone_under_all_of_them() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = self.first = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.more = nn.ModuleList([self.norm, nn.ReLU()])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.more[1](self.more[0](self.first(x)))

    model = drawn(Model(), seed=1)
    assert_folded(model, numbers(2, 3, 5, 5), TORCH)
    assert model.norm is model.more[0]
    assert model.conv is model.first


def test_an_example_with_several_inputs_and_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(3, 4), nn.Linear(2, 4)
            self.norm, self.after = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor, y: torch.Tensor, keep: str = "both") -> dict[str, Any]:
            return {"sum": self.norm(self.one(x)) + y.mean(), "more": (self.after(self.other(y)), keep, None)}

    for example in ((numbers(2, 3), numbers(2, 2)), {"y": numbers(2, 2), "x": numbers(2, 3), "keep": "one"}):
        model = drawn(Two(), seed=4)
        report = fold_(model, example)
        assert [(each.name, each.change) for each in report.touched] == [
            ("norm", "into one before it"), ("after", "into other before it"),
        ]  # fmt: skip
        assert report.error <= TORCH


def test_outputs_that_are_no_numbers_leave_the_error_at_the_layers() -> None:
    class Largest(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).argmax(1)

    report = fold_(drawn(Largest(nn.Linear(3, 4), nn.BatchNorm1d(4)), seed=1).float(), numbers(5, 3).float())
    assert report.error == report.touched[0].error > 0
