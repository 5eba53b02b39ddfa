"""Folds that turn out wrong are undone, and a model that raises is as it was."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tolerances import TORCH
from torch import nn

from normlab.errors import InvalidInputError
from normlab.tools.drop_bias import drop_bias_
from normlab.tools.fold import fold_
from normlab.tools.fold_verify import allowed, full_float32, relative_error, settled

X = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def drawn(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.modules.batchnorm._NormBase):
                each.running_mean.normal_(generator=generator)
                each.running_var.uniform_(0.3, 3, generator=generator)
    return model.double()


def run(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(X)


class Behind(nn.Module):
    """Its second norm is called from a list that nobody looks into, so that it cannot be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.norm, self.last, self.final = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)
        self.norms = [self.norm]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.final(self.last(self.norms[0](self.body(x)).relu()))


def test_a_fold_that_moves_the_output_is_undone_and_the_others_stay() -> None:
    model = drawn(Behind())
    expected = run(model)
    kept = [model.body[3].weight, model.body[3].bias, model.norm]
    # by hand: what comes out when the norm is applied on top of the layer that it was folded into
    twice = copy.deepcopy(model)
    fold_(wrapped := nn.Sequential(twice.body[3], twice.norm), torch.zeros(1, 4, 2, 2).double())
    off = float((run(twice) - expected).abs().max() / expected.abs().max())
    assert type(wrapped[1]) is nn.Identity

    statistics = copy.deepcopy(model.norm.state_dict())
    report = fold_(model.train(), X)
    assert all(torch.equal(value, statistics[name]) for name, value in model.norm.state_dict().items())
    assert model.norm.training
    assert [(each.name, each.change) for each in report.touched] == [
        ("body.1", "into body.0 before it"),
        ("final", "into last before it"),
    ]
    assert [(each.name, each.reason) for each in report.skipped] == [
        ("norm", f"the output would move by {off:.1e} relative on the example, more than 1.0e-04")
    ]
    assert all(one is other for one, other in zip(kept, [*model.body[3].parameters(), model.norm], strict=True))
    assert (run(model) - expected).abs().max() <= TORCH * expected.abs().max()
    assert 0 < report.error <= TORCH


def test_padding_comes_back() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)
            self.norms = [self.norm]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.norms[0](x))

    model = drawn(Padded())
    expected, conv = run(model), repr(model.conv)
    (skipped,) = fold_(model, X, border="pad").skipped
    assert skipped.reason == "the output on the example could not be compared with what it was"  # it is smaller
    assert repr(model.conv) == conv
    assert list(model.conv._reversed_padding_repeated_twice) == [1] * 4
    assert torch.equal(run(model), expected)


@pytest.mark.parametrize("tool", [fold_, drop_bias_])
def test_nothing_is_allowed_to_move(tool: Callable[..., Any]) -> None:
    model = drawn(Behind())
    before = copy.deepcopy(model.state_dict())
    report = tool(model, X, tolerance=0.0)
    assert (report.touched, report.error) == ((), None)
    assert len(report.skipped) == 3
    assert all(each.reason.endswith("relative on the example, more than 0.0e+00") for each in report.skipped)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def held(module: nn.Module) -> dict[str, Any]:
    """What a layer has, tensors and layers by identity."""
    return {
        name: [(key, id(each)) for key, each in value.items()] if isinstance(value, dict) else value
        for name, value in vars(module).items()
    }


class Failing(nn.Module):
    """Raises at one of its calls, and at all after that."""

    def __init__(self, call: int, error: type[BaseException] = ArithmeticError) -> None:
        super().__init__()
        self.error = error
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()
        self.own = nn.BatchNorm2d(4)
        self.conv.weight.requires_grad_(False)
        self.calls, self.call = [0], call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls[0] += 1
        x = self.drop(self.norm(self.conv(x))) + torch.rand(1).double()
        if self.calls[0] >= self.call:
            raise self.error("the model's own")
        return x


@pytest.mark.parametrize("tool", [fold_, drop_bias_])
@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_a_model_that_raises_is_as_it_was(tool: Callable[..., Any], call: int, error: type[BaseException]) -> None:
    model = drawn(Failing(call, error)).train()
    model.norm.eval()
    model.drop.register_forward_hook(lambda module, inputs, output: None)
    layers = [(module, held(module)) for module in model.modules()]
    tensors = [(each, each.clone(), each.requires_grad) for each in (*model.parameters(), *model.buffers())]
    hooks = [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in model.modules()]
    random = torch.random.get_rng_state()
    names = list(model.state_dict())
    with pytest.raises(error, match="the model's own"):
        tool(model, X)
    assert [(module, held(module)) for module in model.modules()] == layers
    for (one, value, grad), other in zip(tensors, (*model.parameters(), *model.buffers()), strict=True):
        assert one is other
        assert torch.equal(one, value)
        assert one.requires_grad == grad
    assert [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in model.modules()] == hooks
    assert list(model.state_dict()) == names
    assert torch.equal(torch.random.get_rng_state(), random)


@pytest.mark.parametrize("tool", [fold_, drop_bias_])
def test_what_is_not_concerned_is_left_alone(tool: Callable[..., Any]) -> None:
    model = drawn(Failing(call=99)).train()
    model.norm.eval()
    model.drop.register_forward_hook(lambda module, inputs, output: None)
    random = torch.random.get_rng_state()
    own = copy.deepcopy(model.own.state_dict())
    assert len(tool(model, X).touched) == 1
    assert [each.training for each in model.children()] == [True, False, True, True]
    assert [len(each._forward_hooks) for each in model.children()] == [0, 0, 1, 0]
    assert not any(each._forward_pre_hooks for each in model.modules())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(value, own[name]) for name, value in model.own.state_dict().items())


@pytest.mark.parametrize(
    ("tool", "where", "verb"), [(fold_, "fold_", "fold"), (drop_bias_, "drop_bias_", "drop the biases")]
)
def test_wrong_arguments_are_said_all_at_once(tool: Callable[..., Any], where: str, verb: str) -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), torch.compile(nn.BatchNorm2d(4), backend="eager"))
    with pytest.raises(InvalidInputError) as raised:
        tool(model, X, tolerance=math.nan)
    assert str(raised.value) == (
        f"{where}: `model` must not be compiled, scripted or wrapped: what does so holds on to the old layers.\n"
        "  got: OptimizedModule\n"
        f"  fix: {verb} first, then wrap or compile.\n"
        f"{where}: `model` must have all its weights.\n"
        "  got: 0.weight is lazy\n"
        "  fix: pass one batch through it first.\n"
        f"{where}: `tolerance` must be a number that is not negative.\n"
        "  got: tolerance = nan\n"
        "  fix: pass 1e-4."
    )


def test_a_border_that_does_not_exist() -> None:
    with pytest.raises(InvalidInputError) as raised:
        fold_(nn.Sequential(), X, border="pads")
    assert str(raised.value) == (
        "fold_: `border` must be one of refuse, pad.\n  got: 'pads'\n  fix: did you mean `pad`?"
    )


def test_errors_are_relative_to_the_largest_value_of_each_output() -> None:
    one = [torch.tensor([1.0, -10.0]), torch.tensor([0.1])]
    assert relative_error(one, [torch.tensor([1.5, -10.0]), torch.tensor([0.1])]) == pytest.approx(0.05)
    assert relative_error(one, [torch.tensor([1.0, -10.0]), torch.tensor([0.2])]) == pytest.approx(1.0)
    assert relative_error(one, one[:1]) == relative_error(one, [one[0], torch.zeros(2)]) == math.inf
    odd, zero = torch.tensor([math.inf, math.nan, 1.0]), torch.zeros(2)
    assert relative_error([odd], [odd.clone()]) == relative_error([zero], [zero.clone()]) == 0
    assert relative_error([odd], [torch.ones(3)]) == relative_error([zero], [torch.ones(2)]) == math.inf
    assert relative_error([], []) == relative_error([torch.zeros(0)], [torch.zeros(0)]) == 0


def test_half_precision_is_allowed_its_roundings() -> None:
    linear = nn.Linear(2, 2)
    assert allowed(1e-4, linear, [torch.zeros(1)]) == 1e-4
    assert allowed(1e-4, linear, [torch.zeros(1).bfloat16()]) == 16 * 2**-7
    assert allowed(0.5, linear.half(), []) == 0.5


def test_float32_is_full_while_it_is_measured_and_as_it_was_afterwards() -> None:
    before = (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    torch.set_float32_matmul_precision("medium")
    try:
        with full_float32():
            assert torch.backends.cudnn.conv.fp32_precision == torch.backends.mkldnn.matmul.fp32_precision == "none"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (before[0], "medium")
    finally:
        torch.set_float32_matmul_precision(before[1])


def test_changes_are_tried_one_by_one_only_if_they_fail_together() -> None:
    made: set[str] = set()
    measured = []

    def make(changes: Any) -> Callable[[], None]:
        before = set(made)
        made.clear()
        made.update(changes)

        def undo() -> None:
            made.clear()
            made.update(before)

        return undo

    def measure() -> float:
        measured.append("".join(sorted(made)))
        if "x" in made:
            raise ValueError("x\nand more")
        return 1.0 if "b" in made else 0.1 * len(made)

    assert settled("ac", make, measure, 0.5) == (["a", "c"], {}, 0.2)
    assert measured == ["ac"]
    made.clear()
    measured.clear()
    kept, reasons, error = settled("abcx", make, measure, 0.5)
    assert (kept, error, made) == (["a", "c"], 0.2, {"a", "c"})
    assert reasons == {
        "b": "the output would move by 1.0e+00 relative on the example, more than 5.0e-01",
        "x": "the model would fail: ValueError: x",
    }
    assert measured == ["abcx", "", "a", "ab", "ac", "acx"]


def test_settings_that_are_frozen_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch.backends.flags_frozen.__globals__, "__allow_nonbracketed_mutation_flag", False)
    assert torch.backends.flags_frozen()
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    assert len(fold_(model, torch.randn(5, 3)).touched) == 1
