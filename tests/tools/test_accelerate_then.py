"""Other tools on an accelerated model, and on layers that do what follows them: right, or kept with the reason."""

import copy
from typing import Any

import pytest
import torch
from tests.tolerances import FOLD, POPULATION, TRAINING
from tests.tools.blocks import NETWORKS, Residual
from tests.tools.test_accelerate import assert_same, built, changes
from torch import Tensor, nn

from normlab import (
    accelerate_,
    accumulate,
    drop_bias_,
    fold_,
    freeze_,
    functional_call,
    recalibrate_,
    stats_frozen,
    swap_,
    sync_,
    unfreeze_,
    unsync_,
)
from normlab.layers import BatchNormAct1d, BatchNormAct2d

X = torch.randn(6, 3, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def pair() -> tuple[nn.Module, nn.Module]:
    """An accelerated network of residual blocks, and the stock one."""
    model = built(lambda: nn.Sequential(Residual(3, 3), Residual(3, 4, 2), nn.BatchNorm2d(4), nn.GELU()))
    twin = copy.deepcopy(model)
    accelerate_(model, X)
    return model, twin


def close(one: Any, other: Any, tolerance: float = TRAINING) -> None:
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_fold() -> None:
    model, twin = pair()
    before = twin.eval()(X)
    report = fold_(model, X)
    assert [each.name for each in report.skipped] == ["2"]
    assert report.skipped[0].reason == (
        "its input comes from AddAndActivate `1.bn2`, and what it does beside stands before the layer after it"
    )
    assert len(report.touched) == 5
    assert report.error is not None
    assert report.error < FOLD
    close(model.eval()(X), before, FOLD)
    close(copy.deepcopy(model)(X), before, FOLD)


@pytest.mark.parametrize("name", NETWORKS)
def test_fold_of_every_network(name: str) -> None:
    make, x, _ = NETWORKS[name]
    model = built(make)
    twin = copy.deepcopy(model)
    accelerate_(model, x)
    ours, theirs = fold_(model, x), fold_(twin, x)
    assert {each.name for each in ours.touched} <= {each.name for each in theirs.touched}
    assert len(ours.touched) >= 2
    close(model.eval()(x), built(make).eval()(x), FOLD)


class Adds(nn.Module):
    """Hands a residual on in one of three ways."""

    def __init__(self, way: str, activation: str = "silu") -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = BatchNormAct2d(3, activation=activation)
        self.after = nn.Conv2d(3, 3, 1)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.way == "its input":
            return self.norm(y, y)
        if self.way == "mask":
            return self.norm(y, mask=torch.ones(y.shape[0], *y.shape[2:], dtype=torch.bool))
        if self.way == "before":
            return self.after(self.norm(x))
        return self.norm(y, x) if self.way == "place" else self.norm(y, residual=x)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("place", ""),
        ("name", ""),
        ("its input", "its input is what it adds to its output"),
        ("mask", "the output on the example could not be compared with what it was"),
        ("before", "its input comes from outside the model, and what it does beside stands before the layer after it"),
    ],
)
def test_fold_of_a_norm_that_does_more(way: str, reason: str) -> None:
    model = built(lambda: Adds(way))
    before = model.eval()(X)
    report = fold_(model, X)
    assert [each.reason for each in report.skipped] == ([reason] if reason else [])
    close(model.eval()(X), before, FOLD)
    if not reason:
        assert repr(model.norm) == "AddAndActivate(silu)"


@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu", "silu", "gelu"])
def test_fold_keeps_each_activation(activation: str) -> None:
    model = built(lambda: nn.Sequential(nn.Linear(3, 4), BatchNormAct1d(4, activation=activation, slope=0.3)))
    x = X[..., 0, 0]
    before = model.eval()(x)
    assert len(fold_(model, x).touched) == 1
    close(model.eval()(x), before, FOLD)


def test_freeze_and_back() -> None:
    model, twin = pair()
    freeze_(model), freeze_(twin)
    assert_same(model, twin, X)
    unfreeze_(model), unfreeze_(twin)
    assert_same(model, twin, X)


def test_accelerate_what_is_frozen() -> None:
    twin = pair()[1]
    model = copy.deepcopy(twin)
    freeze_(model, affine="frozen"), freeze_(twin, affine="frozen")
    report = accelerate_(model, X)
    assert changes(report) == [
        "ours, with relu", "ours, with add and relu", "ours, with relu", "ours, with add and relu", "ours",
        "ours, with gelu",
    ]  # fmt: skip
    assert not model.train()[0].bn1.training
    assert not model[0].bn1.weight.requires_grad
    assert_same(model, twin, X)
    unfreeze_(model), unfreeze_(twin)
    assert model[0].bn1.weight.requires_grad
    assert type(model[0].bn1) is BatchNormAct2d
    assert_same(model, twin, X)


def test_sync_and_back() -> None:
    model, twin = pair()
    assert len(sync_(model).touched) == 6
    assert_same(model, twin, X)
    assert len(unsync_(model).touched) == 6
    assert_same(model, twin, X)


def test_accelerate_what_is_synchronized() -> None:
    """The way back is to layers that still do what follows them."""
    twin = pair()[1]
    model = copy.deepcopy(twin)
    sync_(model)
    accelerate_(model, X)
    unsync_(model)
    assert_same(model, twin, X)
    assert type(model[0].bn1) is BatchNormAct2d
    assert not model[0].bn1.synced


def test_swap_keeps_it() -> None:
    model, _ = pair()
    before = model(X)
    report = swap_(model, "group", groups=1)
    reason = "BatchNormAct2d does what follows it as well, which no other norm does"
    assert [each.reason for each in report.skipped] == [reason] * 5
    assert [each.name for each in report.touched] == ["1.downsample.1"]
    assert model(X).shape == before.shape


def test_drop_bias_keeps_it() -> None:
    model = built(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()))
    accelerate_(model)
    before = model(X)
    (skipped,) = drop_bias_(model, X).skipped
    assert skipped.reason == "BatchNormAct2d `1` does what follows it as well, which no other norm does"
    close(model(X), before)


@pytest.mark.parametrize("order", ["layers", "one_pass"])
def test_recalibrate(order: Any) -> None:
    model, twin = pair()
    batches = [X, X[:3] * 2, X[3:] + 1]
    recalibrate_(model, batches, order=order), recalibrate_(twin, batches, order=order)
    for name, value in twin.state_dict().items():
        close(model.state_dict()[name], value, POPULATION)


@pytest.mark.parametrize("way", ["place", "name"])
def test_recalibrate_a_norm_that_adds(way: str) -> None:
    """What is added is no mask."""
    model = built(lambda: Adds(way))
    recalibrate_(model, [X, X + 1])
    values = torch.cat([model.conv(X), model.conv(X + 1)]).transpose(0, 1).flatten(1)
    close(model.norm.running_mean, values.mean(1), POPULATION)
    close(model.norm.running_var, values.var(1), POPULATION)


def test_scopes() -> None:
    model, twin = pair()
    with stats_frozen(model), stats_frozen(twin):
        close(model(X), twin(X))
    with accumulate(model, 2), accumulate(twin, 2):
        for part in (X[:3], X[3:]):
            close(model(part), twin(part))
    (y, new), (expected, theirs) = functional_call(model, {}, X), functional_call(twin, {}, X)
    close(y, expected)
    assert new.keys() >= theirs.keys()  # and what was not finite
    assert_same(model, twin, X)


def test_a_norm_that_is_put_in_later_is_not_passed_over() -> None:
    """The rewritten forward counts on it to add: one that cannot says so."""
    model, _ = pair()
    model[0].bn2 = nn.BatchNorm2d(3).double()
    with pytest.raises(TypeError, match="residual"):
        model(X)
