"""Who reads what, in networks with every kind of control flow."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from normlab.tools.called import call, tensors_in
from normlab.tools.dataflow import Flow, trace

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
KEPT: list[torch.Tensor] = []


def twice_the_sum(x: torch.Tensor) -> torch.Tensor:
    return x.sum() * 2


with warnings.catch_warnings():  # deprecated, and still in use
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted = torch.jit.script(twice_the_sum)


class Model(nn.Module):
    """A convolution and a norm, and what a test does with them."""

    def __init__(self, does: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.does = does

    def forward(self, x: torch.Tensor) -> Any:
        return self.does(self, x)


def readers(does: Callable[..., Any]) -> list[str]:
    """Who reads the output of the convolution besides the norm."""
    model = Model(does)
    flow = trace(model, X)
    KEPT.clear()
    (found,) = flow.calls[model.conv]
    (value,) = found.outputs
    assert value.call is found
    return [use.by for use in value.uses if model.norm not in use.within]


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        (lambda m, x: m.norm(m.conv(x)), []),
        (lambda m, x: m.norm(input=m.conv(input=x)), []),
        (lambda m, x: (lambda y: m.norm(y).view(len(y), y.shape[1] * y.size(2) * y.stride(2)))(m.conv(x)), []),
        (lambda m, x: checkpoint(lambda z: m.norm(m.conv(z)), x, use_reentrant=False), []),
        (lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)), ["add"]),
        (lambda m, x: (lambda y: torch.cat([m.norm(y), y]))(m.conv(x)), ["cat"]),
        (lambda m, x: (lambda y: m.norm(y).mul_(y.mean()))(m.conv(x)), ["mean"]),
        (lambda m, x: (lambda y: m.norm(y) * scripted(y))(m.conv(x)), ["sum"]),
        (lambda m, x: m.norm(m.conv(x).relu_()), ["relu"]),
        (lambda m, x: m.norm(nn.functional.relu(m.conv(x), inplace=True)), ["relu"]),
        (lambda m, x: (lambda y: (y[:, 0].zero_(), m.norm(y))[1])(m.conv(x)), ["getitem"] * 2),
        (lambda m, x: (lambda y: (y.data.zero_(), m.norm(y))[1])(m.conv(x)), ["data"]),
        (lambda m, x: (lambda y: (y.detach(), m.norm(y))[1])(m.conv(x)), ["detach"]),
        (lambda m, x: (lambda y: (y.numpy().sum(), m.norm(y))[1])(m.conv(x)), ["numpy"]),
        (lambda m, x: (lambda y: (y.tolist(), m.norm(y))[1])(m.conv(x)), ["tolist"]),
        (lambda m, x: (lambda y: m.norm(y) if y.sum() < 1e9 else y)(m.conv(x)), ["sum"]),
        (lambda m, x: (lambda y: (m.norm(y), m.act(y)))(m.conv(x)), ["relu"]),
        (lambda m, x: (lambda y: (m.norm(y), {"hidden": [y]}))(m.conv(x)), ["the caller of the model"]),
        (lambda m, x: (lambda y: (KEPT.append(y), m.norm(y))[1])(m.conv(x)), ["somebody who keeps it after the run"]),
    ],
    ids=range(19),
)  # fmt: skip
def test_every_reader_of_a_value_is_seen(does: Callable[..., Any], expected: list[str]) -> None:
    assert sorted(set(readers(does))) == sorted(set(expected))


def test_what_a_hook_of_somebody_does_with_a_value_is_seen() -> None:
    seen = []
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.mean()))
    (value,) = trace(model, X).calls[model[0][0]][0].outputs
    assert (value.uses[0].by, value.uses[0].within[-1]) == ("mean", model[0])
    assert len(seen) == 1


def test_a_circle_of_references_is_not_taken_for_a_reader() -> None:
    def does(model: Model, x: torch.Tensor) -> torch.Tensor:
        held: dict[str, Any] = {"y": model.conv(x)}
        held["itself"] = held
        return model.norm(held["y"])

    assert readers(does) == []


def test_what_gives_a_value_back_as_it_is_and_what_makes_another() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Identity(), nn.Dropout(), nn.Sequential(nn.Dropout2d()), nn.ReLU(), nn.Flatten()
    )
    flow = trace(model, X)
    value = flow.calls[model[0]][0].outputs[0]
    assert flow.calls[model[4]][0].inputs == [value]
    modules = [each for each in value.passed if isinstance(each, nn.Module)]
    assert modules == [model[1], model[2], model[3][0], model[3]]
    assert [each for each in value.passed if isinstance(each, str)] == ["dropout", "dropout2d"]
    after = flow.calls[model[5]][0]
    assert (after.inputs[0].maker, after.shape, after.outputs[0].maker) == ("relu", (2, 4, 6, 6), "flatten")
    assert flow.calls[model[0]][0].inputs[0].maker == "outside the model"


def test_weights_have_readers_too() -> None:
    model = Model(lambda m, x: m.norm(m.conv(x)) + m.conv.weight.norm())
    flow = trace(model, X)
    uses = flow.value(model.conv.weight).uses
    assert {(use.by, use.within[-1]) for use in uses} == {("conv2d", model.conv), ("norm", model)}
    assert {use.within[-1] for use in flow.value(model.norm.running_mean).uses} == {model.norm}


def test_calls_are_counted_and_nest() -> None:
    model = Model(lambda m, x: m.act(m.act(m.conv(x))))
    flow = trace(model, X)
    assert (len(flow.calls[model.act]), len(flow.calls[model]), model.norm in flow.calls) == (2, 1, False)
    assert flow.calls[model.act][1].inputs == flow.calls[model.act][0].outputs
    assert flow.calls[model][0].outputs == flow.calls[model.act][1].outputs
    assert flow.stack == []


def bits(model: nn.Module) -> list[Any]:
    held: list[Any] = [(name, value.clone()) for name, value in model.state_dict().items()]
    for module in model.modules():
        held.append((module.training, len(module._forward_hooks), len(module._forward_pre_hooks)))
        held.append(sorted(vars(module)))
    return [*held, torch.random.get_rng_state().clone()]


def assert_same(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        if isinstance(left, torch.Tensor):
            assert torch.equal(left, right)
        elif isinstance(left, tuple) and isinstance(left[-1], torch.Tensor):
            assert left[0] == right[0]
            assert torch.equal(left[1], right[1])
        else:
            assert left == right


def fails(model: Model, x: torch.Tensor) -> torch.Tensor:
    model.norm(torch.rand_like(model.conv(x)))
    raise ValueError("the model's own")


@pytest.mark.parametrize("does", [lambda m, x: m.norm(m.conv(x)) * torch.rand(1), fails], ids=["runs", "raises"])
def test_the_model_is_left_alone(does: Callable[..., Any]) -> None:
    model = Model(does)
    model.norm.eval()
    model.act.register_forward_hook(lambda module, inputs, output: None)
    before = bits(model)
    if does is fails:
        with pytest.raises(ValueError, match="the model's own"):
            trace(model, X)
    else:
        trace(model, X)
    assert_same(bits(model), before)
    assert torch.overrides._len_torch_function_stack() == 0


def test_a_run_keeps_no_values_alive() -> None:
    model = Model(lambda m, x: m.norm(m.conv(x)))
    flow: Flow = trace(model, X.clone())
    assert not [tensor for tensor in list(flow.values) if tensor.ndim == 4 and tensor is not model.conv.weight]


@pytest.mark.parametrize(
    "example", [(X, 2), [X, 2], {"x": X, "times": 2}], ids=["tuple", "list", "mapping"]
)  # fmt: skip
def test_an_example_is_arguments_or_named_ones(example: Any) -> None:
    class Times(nn.Module):
        def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
            return x * times

    assert torch.equal(call(Times(), example), X * 2)
    assert torch.equal(call(nn.Identity(), X), X)
    (value,) = trace(model := Times(), copy.copy(example)).calls[model][0].inputs
    assert [use.by for use in value.uses] == ["mul"]


def test_tensors_are_found_in_what_models_return() -> None:
    from dataclasses import dataclass

    @dataclass
    class Output:
        logits: torch.Tensor
        hidden: tuple[torch.Tensor | None, ...]

    one, two, three = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    nested = [{"a": Output(one, (two, None))}, ({three}, "text", Output)]
    assert [len(each) for each in tensors_in(nested)] == [1, 2, 3]
