"""Fusing for quantization finds our layers as it finds those of PyTorch."""

import copy

import pytest
import torch
from tests.layers.oracle import random
from torch import nn
from torch.ao import quantization
from torch.ao.nn import intrinsic
from torch.ao.quantization.quantize_fx import fuse_fx

from normlab import layers
from normlab.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*")  # as all of torch.ao is
PAIRS = [
    (layers.BatchNorm1d, nn.BatchNorm1d),
    (layers.BatchNorm2d, nn.BatchNorm2d),
    (layers.BatchNorm3d, nn.BatchNorm3d),
]
CONVS = {nn.BatchNorm1d: nn.Conv1d, nn.BatchNorm2d: nn.Conv2d, nn.BatchNorm3d: nn.Conv3d}
GROUPS = [["0", "1", "2"], ["3", "4"]]


def input_of(stock: type[nn.Module]) -> torch.Tensor:
    return random(2, 3, *(6,) * (list(CONVS).index(stock) + 1), dtype=torch.float32)


def build(norm: type[nn.Module], stock: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    conv = CONVS[stock]
    model = nn.Sequential(conv(3, 4, 3), norm(4), nn.ReLU(), conv(4, 2, 1, bias=False), norm(2))
    model(input_of(stock))
    return model


@pytest.mark.parametrize(("ours", "stock"), PAIRS, ids=lambda each: each.__module__)
@pytest.mark.parametrize("in_place", [False, True], ids=["copy", "in place"])
def test_in_evaluation(ours: type[nn.Module], stock: type[nn.Module], in_place: bool) -> None:
    mine, theirs = build(ours, stock).eval(), build(stock, stock).eval()
    x = input_of(stock)
    expected = mine(x)
    fused = [quantization.fuse_modules(model, GROUPS, inplace=in_place) for model in (mine, theirs)]
    assert [type(each) for each in fused[0].modules()] == [type(each) for each in fused[1].modules()]
    assert torch.equal(fused[0](x), fused[1](x))
    torch.testing.assert_close(fused[0](x), expected)
    assert type(mine[1]) is (nn.Identity if in_place else ours)


@pytest.mark.parametrize(("ours", "stock"), PAIRS, ids=lambda each: each.__module__)
def test_in_training(ours: type[nn.Module], stock: type[nn.Module]) -> None:
    """The norm goes on as PyTorch's inside of what it is fused into; the layer itself is as before."""
    mine, theirs = build(ours, stock), build(stock, stock)
    layer, before = mine[1], {name: value.clone() for name, value in mine[1].named_buffers()}
    fused = [quantization.fuse_modules_qat(model, GROUPS, inplace=True) for model in (mine, theirs)]
    assert [type(each) for each in fused[0].modules()] == [type(each) for each in fused[1].modules()]
    assert fused[0][0][1].weight is layer.weight
    assert type(layer) is ours
    assert all(torch.equal(value, before[name]) for name, value in layer.named_buffers())
    x = input_of(stock)
    assert torch.equal(fused[0](x), fused[1](x))
    for name, value in fused[1].state_dict().items():
        assert torch.equal(fused[0].state_dict()[name], value)


def test_every_entry_has_its_twin() -> None:
    of_ours = {stock: ours for ours, stock in PAIRS}
    table = quantization.fuser_method_mappings._DEFAULT_OP_LIST_TO_FUSER_METHOD
    theirs = [types for types in table if any(each in of_ours for each in types)]
    assert len(theirs) == 12
    for types in theirs:
        assert tuple(of_ours.get(each, each) for each in types) in table


def test_other_fusings() -> None:
    for ours, stock, before, after in (
        (layers.BatchNorm1d(4), nn.BatchNorm1d(4), nn.Linear(3, 4), nn.Identity()),
        (layers.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ConvTranspose2d(3, 4, 2), nn.Identity()),
    ):
        x = random(2, 3, *(5,) * (before.weight.ndim - 2), dtype=torch.float32)
        found = [
            quantization.fuse_modules(nn.Sequential(before, norm, after).eval(), ["0", "1"])(x)
            for norm in (ours, stock)
        ]
        assert torch.equal(*found)
    fused = quantization.fuse_modules_qat(nn.Sequential(layers.BatchNorm2d(4), nn.ReLU()), ["0", "1"])
    assert type(fused[0]) is intrinsic.BNReLU2d


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_options_that_would_be_lost_are_refused(training: bool) -> None:
    fuse = quantization.fuse_modules_qat if training else quantization.fuse_modules
    for options, got, lost in (
        ({"axis": -1, "commit_when": "always"}, "commit_when = 'always', axis = -1", True),
        ({"rule": "debiased"}, "rule = 'debiased'", training),
    ):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), layers.BatchNorm2d(4, **options)).train(training)
        if not lost:
            fuse(model, ["0", "1"])
            continue
        with pytest.raises(InvalidInputError) as raised:
            fuse(model, ["0", "1"])
        assert str(raised.value) == (
            "BatchNorm2d: cannot be fused with options that the fused layer does not have.\n"
            f"  got: {got}\n"
            "  fix: leave it out of the list, or set them back."
        )
    with pytest.raises(AssertionError, match="did not find fuser method"):
        fuse(nn.Sequential(nn.Conv2d(3, 4, 1), layers.GhostBatchNorm2d(4, 2)).train(training), ["0", "1"])


def test_followed_by_fx_as_a_whole() -> None:
    """Its fusing knows classes exactly, and leaves our layers as they are."""
    optimization = pytest.importorskip("torch.fx.experimental.optimization")
    model = nn.Sequential(
        build(layers.BatchNorm2d, nn.BatchNorm2d), layers.InstanceNorm2d(2), layers.GroupNorm(1, 2), layers.LayerNorm(4)
    )
    x = random(2, 3, 6, 6, dtype=torch.float32)
    for training in (True, False):
        traced = torch.fx.symbolic_trace(copy.deepcopy(model.train(training)))
        assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == [
            "0.0", "0.1", "0.2", "0.3", "0.4", "1",
        ]  # fmt: skip
        assert torch.equal(traced(x), copy.deepcopy(model)(x))
    assert torch.equal(optimization.fuse(model)(x), model(x))
    assert torch.equal(fuse_fx(copy.deepcopy(model))(x), model(x))
    with_mask = torch.fx.symbolic_trace(Masking())
    assert torch.equal(with_mask(x[:, :, 0], x[:, 0, 0] > 0), Masking()(x[:, :, 0], x[:, 0, 0] > 0))


class Masking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = layers.BatchNorm1d(3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.norm(x, mask)
