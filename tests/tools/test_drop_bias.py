"""A model puts out the same without the biases that its norms take away, in both modes, and trains alike."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tolerances import TORCH, TRAINING
from torch import nn
from torch.nn.utils import parametrizations

from normlab import layers
from normlab.tools.drop_bias import drop_bias_
from normlab.tools.freeze import freeze_
from normlab.tools.norms import ChannelsLast
from normlab.tools.report import Report, Skipped

RUNNING = {"track_running_stats": True}


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.modules.batchnorm._NormBase) and each.running_mean is not None:
                each.running_mean.normal_(generator=generator)
                each.running_var.uniform_(0.3, 3, generator=generator)
        for each in model.parameters():
            each.normal_(generator=generator)
    return model


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def reasons(report: Report) -> dict[str, str]:
    return {each.name: each.reason for each in report.skipped}


def near(one: torch.Tensor, other: torch.Tensor, bound: float = TORCH) -> bool:
    return bool((one - other).abs().max() <= bound * other.abs().max())


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Linear(5, 4), nn.BatchNorm1d(4), (6, 5)),
        (nn.Linear(5, 4), ChannelsLast(nn.BatchNorm1d(4)), (6, 3, 5)),
        (nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4, affine=False), (6, 3, 7)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4, momentum=None), (2, 4, 7, 7)),
        (nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), (2, 4, 7, 7)),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.InstanceNorm2d(4), (2, 4, 7, 7)),
        (nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, affine=True, **RUNNING), (2, 4, 7, 7)),
        (nn.ConvTranspose3d(4, 4, 3, stride=2, groups=2), nn.BatchNorm3d(4), (2, 4, 3, 3, 3)),
        (nn.ConvTranspose1d(4, 4, 3), nn.SyncBatchNorm(4), (2, 4, 5)),
        (nn.Linear(5, 4), layers.BatchNorm1d(4, axis=-1), (6, 3, 5)),
        (nn.Linear(5, 4), layers.BatchRenorm1d(4, schedule=(0, 0, 0)), (6, 5)),
        (nn.Linear(5, 4), layers.GhostBatchNorm1d(4, 2), (6, 5)),
    ],
    ids=str,
)
def test_outputs_and_training_stay_as_they_were(layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]) -> None:
    model, x = drawn(nn.Sequential(layer, nn.Identity(), norm, nn.Tanh())), numbers(*shape)
    whole = copy.deepcopy(model)
    report = drop_bias_(model, x)
    assert reasons(report) == {}
    assert [each.name for each in report.touched] == ["0"]
    assert model[0].bias is None
    assert "0.bias" not in model.state_dict()
    assert report.error is not None
    assert report.error <= TORCH
    dy = numbers(*whole.eval()(x).shape)
    for mode in (False, True):
        with torch.no_grad():
            assert near(copy.deepcopy(model).train(mode)(x), copy.deepcopy(whole).train(mode)(x))
    optimizers = [torch.optim.SGD(each.train().parameters(), lr=0.01) for each in (model, whole)]
    for _ in range(5):
        for each, optimizer in zip((model, whole), optimizers, strict=True):
            optimizer.zero_grad()
            (each(x) * dy).mean().backward()
            optimizer.step()
    assert near(layer.weight, whole[0].weight, TRAINING)
    with torch.no_grad():
        assert near(model.eval()(x), whole.eval()(x), TRAINING)


def test_the_running_mean_is_moved_by_the_bias() -> None:
    model = drawn(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    mean, bias = model[1].running_mean.clone(), model[0].bias.detach().clone()
    rest = {name: each.clone() for name, each in model.state_dict().items() if name not in ("0.bias", "1.running_mean")}
    buffer = model[1].running_mean
    model.train()[1].eval()
    report = drop_bias_(model, numbers(6, 5))
    assert torch.equal(model[1].running_mean, mean - bias)
    assert model[1].running_mean is buffer
    assert all(torch.equal(model.state_dict()[name], value) for name, value in rest.items())
    assert [each.training for each in model] == [True, False]
    assert report.title().startswith("1 of 1 weight layer freed of a redundant bias, largest relative error ")
    assert report.touched[0].change == "its bias is taken away by BatchNorm1d `1`"
    assert drop_bias_(model, numbers(6, 5)).title() == "0 of 0 weight layers freed of a redundant bias"


@pytest.mark.parametrize("frozen", [True, False])
def test_a_norm_that_does_not_take_the_batch_s_mean_away(frozen: bool) -> None:
    norm = nn.BatchNorm1d(4) if frozen else layers.BatchNorm1d(4, normalize_with="running")
    model = drawn(nn.Sequential(nn.Linear(5, 4), norm))
    if frozen:
        freeze_(model)
    word = "FrozenBatchNorm1d" if frozen else "BatchNorm1d"
    assert reasons(drop_bias_(model, numbers(6, 5))) == {
        "0": f"{word} `1` normalizes by running statistics in train mode too, which do not take a bias away"
    }


class Model(nn.Module):
    def __init__(self, does: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.drop, self.does = nn.Dropout(), does

    def forward(self, x: torch.Tensor) -> Any:
        return self.does(self, x)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)), "the output of Conv2d `conv` is also used by add"),
        (lambda m, x: m.norm(m.conv(x)) + m.conv(x).mean(), "Conv2d `conv` is called 2 times"),
        (lambda m, x: m.norm(m.norm(m.conv(x))), "BatchNorm2d `norm` is called 2 times"),
        (lambda m, x: m.norm(m.drop(m.conv(x))), "dropout stands between it and BatchNorm2d `norm`"),
        (lambda m, x: m.norm(nn.functional.dropout(m.conv(x), 0.5, m.training)),
         "dropout stands between it and BatchNorm2d `norm`"),
        (lambda m, x: m.norm(m.conv(x)) + m.conv.bias.norm(), "the bias of Conv2d `conv` is also used by norm"),
        (lambda m, x: m.norm(m.conv(x)) + m.norm.running_mean.norm(),
         "the running mean of BatchNorm2d `norm` is also used by norm"),
        (lambda m, x: m.norm(torch.relu(m.conv(x)) if m.training else m.conv(x)),
         "the output would move by {} relative on the example, more than 1.0e-04"),
    ],
    ids=range(8),
)  # fmt: skip
def test_a_bias_that_matters_is_kept(does: Callable[..., Any], reason: str) -> None:
    model, x = drawn(Model(does)), numbers(2, 3, 7, 7)
    before = copy.deepcopy(model.state_dict())
    report = drop_bias_(model, x)
    assert not report.touched
    (skipped,) = report.skipped
    start, _, end = reason.partition("{}")
    assert (skipped.name, skipped.layer) == ("conv", "Conv2d")
    assert skipped.reason.startswith(start)
    assert skipped.reason.endswith(end)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    "does",
    [
        lambda m, x: m.norm(m.act(m.conv(x))),
        lambda m, x: m.norm(m.conv(x).transpose(2, 3)),
        lambda m, x: m.norm(m.conv(x) + 1),
        lambda m, x: m.conv(x),
    ],
)
def test_layers_that_no_norm_follows_are_not_spoken_of(does: Callable[..., Any]) -> None:
    model, x = drawn(Model(does)), numbers(2, 3, 7, 7)
    assert drop_bias_(model, x) == Report("freed of a redundant bias", (), layers="weight layer")
    assert model.conv.bias is not None


class Doubled(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_norms_and_layers_that_keep_it() -> None:
    x = numbers(2, 4, 5, 5)
    layers = {
        "GroupNorm `1` does not take away a value for each channel": nn.GroupNorm(2, 4),
        "LayerNorm `1` does not take away a value for each channel": nn.LayerNorm((4, 5, 5)),
        "Doubled `1` has a forward of its own, whose meaning is not known": Doubled(4),
    }
    for reason, norm in layers.items():
        model = drawn(nn.Sequential(nn.Conv2d(4, 4, 1), norm))
        assert drop_bias_(model, x).skipped == (Skipped("0", "Conv2d", reason),)
    model = drawn(
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    )
    model[3].bias = model[0].bias
    assert reasons(drop_bias_(model, x)) == {
        "0": "Conv2d `0` shares its bias with Conv2d `3`",
        "3": "Conv2d `3` shares its bias with Conv2d `0`",
    }
    model[3].bias = nn.Parameter(model[0].bias.clone())
    model[4].running_mean = model[1].running_mean
    assert set(reasons(drop_bias_(model, x)).values()) == {
        f"BatchNorm2d `{name}` shares its running mean with another layer" for name in "14"
    }
    model = drawn(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    handle = model[0].register_forward_hook(lambda module, inputs, output: None)
    hooked = "Conv2d `0` has hooks, which see its output or set its weights"
    assert reasons(drop_bias_(model, x)) == {"0": hooked}
    handle.remove()
    handle = model[1].register_forward_hook(lambda module, inputs, output: None)
    hooked = "BatchNorm2d `1` has hooks, which see its input"
    assert reasons(drop_bias_(model, x)) == {"0": hooked}
    handle.remove()
    model[1].forward = lambda x: x
    assert reasons(drop_bias_(model, x)) == {"0": "the forward of BatchNorm2d `1` was replaced by another function"}
    model = drawn(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)))
    axes = "its channels are in dimension 1 of (2, 7, 7), those of Linear `0` in dimension 2"
    assert reasons(drop_bias_(model, numbers(2, 7, 5))) == {"0": axes}


def test_a_weight_that_is_shared_or_computed_does_not_matter() -> None:
    x = numbers(2, 4, 5, 5)
    model = drawn(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    model[3].weight = model[0].weight
    assert [each.name for each in drop_bias_(model, x).touched] == ["0"]
    model = drawn(nn.Sequential(parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4)))
    assert [each.name for each in drop_bias_(model, x).touched] == ["0"]


def test_one_sample_is_too_few_for_train_mode() -> None:
    model = drawn(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    (touched,) = drop_bias_(model, numbers(1, 5)).touched
    assert touched.change == (
        "its bias is taken away by BatchNorm1d `1`; not tried in train mode, where the model raises "
        "ValueError: Expected more than 1 value per channel when training, got input size torch.Size([1, 4])"
    )


def test_a_bias_moves_the_mean_and_the_gradient_is_rounding() -> None:
    """Why it is redundant: 2e-5 of a gradient against 117 in `hazards.md`."""
    model, x = drawn(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))).train(), numbers(2, 4, 5, 5)
    (model(x) * numbers(2, 4, 5, 5)).sum().backward()
    assert model[0].bias.grad.abs().max() <= TORCH * model[0].weight.grad.abs().max()


def test_a_norm_with_several_domains_is_said_to_be_one() -> None:
    model = nn.Sequential(nn.Linear(5, 4), layers.DomainBatchNorm1d(4, ["real", "fake"]))
    assert reasons(drop_bias_(model, torch.randn(6, 5))) == {
        "0": "DomainBatchNorm1d `1` has statistics for several domains, and is another norm in each"
    }
