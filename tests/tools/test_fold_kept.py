"""Norms that are not folded, and the reason that is given for each; the model is then as it was."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tolerances import TORCH
from torch import nn
from torch.nn.utils import parametrizations

from normlab import layers
from normlab.tools.drop_bias import drop_bias_
from normlab.tools.fold import fold_
from normlab.tools.norms import ChannelRMSNorm, NoNorm
from normlab.tools.report import Skipped

FROM_INPUT = "its statistics are taken from the input, so that it is no fixed scale and shift"
TO_CALLER = "the output of the norm is used by the caller of the model"


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.modules.batchnorm._NormBase) and each.running_mean is not None:
                each.running_mean.normal_(generator=generator)
                each.running_var.uniform_(0.3, 3, generator=generator)
            if isinstance(each, nn.modules.batchnorm._NormBase) and each.weight is not None:
                each.weight.normal_(generator=generator)
    return model


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def reasons(model: nn.Module, example: Any, **settings: Any) -> dict[str, str]:
    """Why each norm was kept; nothing was folded, and no bit and no layer of the model was changed."""
    before, layers = copy.deepcopy(model.state_dict()), list(model.modules())
    parameters = list(model.parameters())
    report = fold_(model, example, **settings)
    assert (report.touched, report.error) == ((), None)
    assert all(one is other for one, other in zip(model.modules(), layers, strict=True))
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return {each.name: each.reason for each in report.skipped}


class Model(nn.Module):
    """A convolution and a norm, and what a test does with them."""

    def __init__(self, does: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.norm, self.act, self.held = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), None
        self.does = does

    def forward(self, x: torch.Tensor) -> Any:
        return self.does(self, x)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)),
         "the output of Conv2d `conv` is also used by add, and the output of the norm is used by add"),
        (lambda m, x: (lambda y: m.norm(y) * m.act(y))(m.conv(x)),
         "the output of Conv2d `conv` is also used by ReLU `act`, and the output of the norm is used by mul"),
        (lambda m, x: (lambda y: (m.norm(y), y))(m.conv(x)),
         f"the output of Conv2d `conv` is also used by the caller of the model, and {TO_CALLER}"),
        (lambda m, x: m.norm(nn.functional.relu(m.conv(x))), f"its input comes from relu, and {TO_CALLER}"),
        (lambda m, x: m.norm(m.act(m.conv(x))), f"its input comes from ReLU `act`, and {TO_CALLER}"),
        (lambda m, x: m.norm(m.conv(x).relu_()),
         f"the output of Conv2d `conv` is also used by relu, and {TO_CALLER}"),
        (lambda m, x: m.norm(m.conv(x).transpose(2, 3)), f"its input comes from transpose, and {TO_CALLER}"),
        (lambda m, x: m.norm(m.conv(x)[:]), f"its input comes from getitem, and {TO_CALLER}"),
        (lambda m, x: m.norm(m.conv(x)) + m.conv(x).mean(),
         "Conv2d `conv` is called 2 times, and the output of the norm is used by add"),
        (lambda m, x: m.norm(m.norm(m.conv(x))), "it is called 2 times"),
        (lambda m, x: m.conv(x), "the example does not call it"),
        (lambda m, x: m.norm.forward(m.conv(x)), "the example does not call it"),
        (lambda m, x: m.norm(m.conv.forward(x)), f"its input comes from conv2d, and {TO_CALLER}"),
        (lambda m, x: (lambda y: (m.norm(y), setattr(m, "held", y))[0])(m.conv(x)),
         f"the output of Conv2d `conv` is also used by somebody who keeps it after the run, and {TO_CALLER}"),
        (lambda m, x: m.norm(m.conv(x)) + nn.functional.conv2d(x, m.conv.weight),
         "the weight of Conv2d `conv` is also used by conv2d, and the output of the norm is used by add"),
        (lambda m, x: m.norm(m.conv(x)) + m.conv.bias.norm(),
         "the bias of Conv2d `conv` is also used by norm, and the output of the norm is used by add"),
        (lambda m, x: m.norm(m.conv(x)) + m.norm.running_var.max(), "its running_var is also used by max"),
        (lambda m, x: m.norm(m.conv(x)) + m.norm.eps,
         "the model would fail: AttributeError: 'Identity' object has no attribute 'eps'"),
        (lambda m, x: torch.vmap(lambda z: m.norm(m.conv(z[None])))(x),
         "the output on the example could not be compared with what it was"),
    ],
    ids=range(19),
)  # fmt: skip
def test_somebody_else_reads_or_changes_a_value(does: Callable[..., Any], reason: str) -> None:
    assert reasons(drawn(Model(does)), numbers(2, 3, 7, 7)) == {"norm": reason}


class Doubled(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Named(nn.BatchNorm2d):
    """A subclass that is the same layer."""


class Same(nn.Conv2d):
    """The padding that TensorFlow has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))


class Standardized(nn.Conv2d):
    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._conv_forward(input, weight / weight.std(), bias)


def test_a_norm_that_takes_its_statistics_from_the_input() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LayerNorm(5), nn.GroupNorm(2, 4), ChannelRMSNorm(4, 1e-5), nn.InstanceNorm2d(4),
        nn.BatchNorm2d(4, track_running_stats=False), nn.LocalResponseNorm(2), Doubled(4), NoNorm(),
        nn.InstanceNorm2d(4, track_running_stats=True), nn.SyncBatchNorm(4, track_running_stats=False),
    )  # fmt: skip
    model[9].track_running_stats = False  # which stops batch norm from using its statistics in train mode only
    assert reasons(model, numbers(2, 3, 7, 7)) == {
        **dict.fromkeys("12345", FROM_INPUT),
        "6": "it normalizes across neighbouring channels, as no other norm does",
        "7": "Doubled has a forward of its own, whose meaning is not known",
        "8": "there is no norm to fold",
        "9": FROM_INPUT,
        "10": FROM_INPUT,
    }


def test_a_subclass_with_the_forward_of_its_base_is_folded() -> None:
    model = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), Named(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    model[3].track_running_stats = False  # set afterwards, eval mode uses its statistics all the same
    assert [each.layer for each in fold_(model, numbers(2, 3, 7, 7)).touched] == ["Named(4)", "BatchNorm2d(4)"]


def test_our_layers_where_they_are_no_fixed_scale_either() -> None:
    x = numbers(2, 3, 7, 7)
    for norm, reason in (
        (layers.BatchNorm2d(3, normalize_with="batch"), FROM_INPUT),
        (layers.InstanceNorm2d(3, track_running_stats=True, normalize_with="batch"), FROM_INPUT),
        (layers.BatchNorm2d(3, commit_when="always"), "its statistics move in eval mode too"),
        (layers.DomainBatchNorm2d(3, ["one", "other"]),
         "DomainBatchNorm2d has statistics for several domains, and is another norm in each"),
        (layers.BatchNorm2d(3, axis=3), "its channels are in dimension 3 of (2, 3, 3, 3), those of Conv2d `0` in "
         f"dimension 1, and {TO_CALLER}"),
    ):  # fmt: skip
        assert reasons(drawn(nn.Sequential(nn.Conv2d(3, 3, 5), norm)), x) == {"1": reason}

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(3, 4), layers.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.linear(x), mask=x[:, 0] > 0)

    assert reasons(drawn(Masked()), numbers(5, 3)) == {"norm": "it is called with more than its input, as with a mask"}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("running_mean", float("nan"), "its running_mean is not finite in 1 of 4 channels, first in channel 2"),
        ("running_var", float("inf"), "its running_var is not finite in 1 of 4 channels, first in channel 2"),
        ("running_var", -1e-9, "its running_var is negative in 1 of 4 channels, first in channel 2"),
        ("weight", float("inf"), "its weight is not finite in 1 of 4 channels, first in channel 2"),
        ("bias", float("nan"), "its bias is not finite in 1 of 4 channels, first in channel 2"),
        ("eps", 0.0, "its variance is zero and nothing is added to it"),
    ],
)
def test_statistics_that_are_no_numbers(name: str, value: float, reason: str) -> None:
    model = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    with torch.no_grad():
        if name == "eps":
            model[1].eps = value
            model[1].running_var[2] = 0
        else:
            getattr(model[1], name)[2] = value
    before = [each.clone() for each in (*model.parameters(), *model.buffers())]
    report = fold_(model, numbers(2, 3, 7, 7))
    assert report.skipped == (Skipped("1", "BatchNorm2d(4)", reason),)
    same = zip(before, (*model.parameters(), *model.buffers()), strict=True)
    assert all(torch.equal(one.nan_to_num(7), other.nan_to_num(7)) for one, other in same)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Same(3, 4, 3), "Same `0` has a forward of its own, whose meaning is not known"),
        (Standardized(3, 4, 3), "Standardized `0` has a forward of its own, whose meaning is not known"),
        (parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
         "the weight of ParametrizedConv2d `0` is computed by a parametrization"),
    ],
    ids=["forward", "conv forward", "parametrization"],
)  # fmt: skip
def test_layers_whose_weights_are_not_what_they_compute_with(layer: nn.Module, reason: str) -> None:
    model = drawn(nn.Sequential(layer, nn.BatchNorm2d(4)))
    assert reasons(model, numbers(2, 3, 7, 7)) == {"1": f"{reason}, and {TO_CALLER}"}


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm:FutureWarning")  # deprecated, and still in use
def test_hooks_and_replaced_forwards() -> None:
    x = numbers(2, 3, 7, 7)
    hooked = "Conv2d `0` has hooks, which see its output or set its weights"
    model = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    handle = model[0].register_forward_hook(lambda module, inputs, output: None)
    assert reasons(model, x) == {"1": f"{hooked}, and {TO_CALLER}"}
    handle.remove()
    handle = model[1].register_forward_pre_hook(lambda module, inputs: None)
    assert reasons(model, x) == {"1": "it has hooks, which would be lost"}
    handle.remove()
    model[1].forward = lambda x: x
    assert reasons(model, x) == {"1": "its forward was replaced by another function"}
    del model[1].forward
    model[0].forward = lambda x: x[:, [0, 1, 2, 2]]
    unknown = "Conv2d `0` has a forward of its own, whose meaning is not known"
    assert reasons(model, x) == {"1": f"{unknown}, and {TO_CALLER}"}
    model = drawn(nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    report = fold_(model, x)
    assert [each.reason for each in report.skipped] == [f"{hooked}, and {TO_CALLER}"]


def test_weights_that_two_layers_share() -> None:
    model = drawn(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 1)))
    model[3].weight = model[0].weight
    assert reasons(model, numbers(2, 3, 7, 7)) == {
        "1": "Conv2d `0` shares its weight with Conv2d `3`, and the output of the norm is used by ReLU `2`"
    }


def test_channels_that_are_in_different_dimensions() -> None:
    """(N, L, C) with as many channels as positions: PyTorch's fusing is silently wrong, by 3.25 in `hazards.md`."""
    x = numbers(2, 7, 5)
    model = drawn(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))).eval()
    axes = "its channels are in dimension 1 of (2, 7, 7), those of Linear `0` in dimension 2"
    assert reasons(model, x) == {"1": f"{axes}, and {TO_CALLER}"}
    with torch.no_grad():
        fused = nn.utils.fuse_linear_bn_eval(model[0], model[1])
        assert (fused(x) - model(x)).abs().max() > 0.5
    model = drawn(nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 7)))
    axes = "its channels are in dimension 1 of (2, 7, 7), those of Linear `1` in dimension 2"
    assert reasons(model, numbers(2, 7, 7)) == {"0": f"its input comes from outside the model, and {axes}"}
    model = drawn(nn.Sequential(nn.Conv1d(5, 7, 1), nn.BatchNorm1d(7)))  # (C, L) is (N, C) to the norm
    axes = "its channels are in dimension 1 of (7, 7), those of Conv1d `0` in dimension 0"
    assert reasons(model, numbers(5, 7)) == {"1": f"{axes}, and {TO_CALLER}"}


def test_readers_of_what_a_norm_puts_out() -> None:
    class After(Model):
        def __init__(self, does: Callable[..., Any]) -> None:
            super().__init__(does)
            self.norm, self.other = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)

    before = "its input comes from outside the model, and "
    for does, reason in (
        (lambda m, x: m.conv(m.norm(x)) + m.other(m.norm(x)), "it is called 2 times"),
        (lambda m, x: (lambda y: (m.conv(y), m.other(y)))(m.norm(x)),
         before + "the output of the norm is used by 2 layers"),
        (lambda m, x: (lambda y: m.conv(y) + m.conv(y))(m.norm(x)), before + "Conv2d `conv` is called 2 times"),
        (lambda m, x: (m.conv(x), m.norm(x))[0], before + "nobody uses its output"),
        (lambda m, x: m.conv(m.act(m.norm(x))), before + "the output of the norm is used by ReLU `act`"),
        (lambda m, x: m.conv._conv_forward(m.norm(x), m.conv.weight, None),
         before + "the output of the norm is used by conv2d"),
    ):  # fmt: skip
        assert reasons(drawn(After(does)), numbers(2, 3, 7, 7)) == {"norm": reason}


def test_the_whole_model_cannot_be_replaced_in_place() -> None:
    report = fold_(nn.BatchNorm2d(3), numbers(2, 3, 4, 4))
    reason = "it is the whole model, which cannot be replaced in place"
    assert report.skipped == (Skipped("", "BatchNorm2d(3)", reason),)
    assert fold_(nn.Conv2d(3, 4, 1), numbers(2, 3, 4, 4)).title() == "0 of 0 norm layers folded"
    assert drop_bias_(nn.Conv2d(3, 4, 1), numbers(2, 3, 4, 4)).title() == (
        "0 of 0 weight layers freed of a redundant bias"
    )


def test_a_bare_function_is_no_layer() -> None:
    def does(m: Model, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(m.conv(x), m.norm.running_mean, m.norm.running_var)

    assert reasons(drawn(Model(does)), numbers(2, 3, 7, 7)) == {"norm": "the example does not call it"}


def test_one_norm_is_kept_and_the_others_are_folded() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), nn.GroupNorm(2, 4),
    )  # fmt: skip
    report = fold_(drawn(model).double(), numbers(2, 3, 7, 7).double())
    assert [(each.name, each.change) for each in report.touched] == [
        ("1", "into 0 before it"),
        ("6", "into 5 before it"),
    ]
    assert report.skipped == (
        Skipped(
            "3",
            "BatchNorm2d(4)",
            "the output of Conv2d `0` is also used by ReLU `2`, and the output of the norm is used by ReLU `4`",
        ),
        Skipped("7", "GroupNorm(2, 4)", FROM_INPUT),
    )
    assert report.error <= TORCH
