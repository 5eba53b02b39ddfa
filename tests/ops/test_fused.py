"""Batch norm by our kernels, seen by autograd and by what follows, transforms or compiles it."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.kernels.batch_norm_cases import EPS, away_from_the_kink, by_reference, by_torch
from tests.layers.oracle import close, random
from tests.tolerances import beside_torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.library import opcheck
from torch.nn import functional

from normlab.errors import InvalidInputError
from normlab.kernels import pick
from normlab.kernels.activation import NOTHING, After
from normlab.ops.batch_norm import batch_norm, batch_norm_act, fused_batch_norm

SHAPE = (4, 3, 8, 7)
GIVEN = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 2.0, 0.25])
NAMES = ("x", "weight", "bias", "residual")
of_torch_itself = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
last_or_not = pytest.mark.parametrize("last", [False, True], ids=["contiguous", "last"])
given_or_not = pytest.mark.parametrize("given", [False, True], ids=["of the batch", "given"])


@pytest.fixture(autouse=True)
def by_kernel() -> Iterator[None]:
    with pick.backend("fused"):
        yield


def leaves(dtype: torch.dtype = torch.float64, last: bool = False) -> list[Tensor]:
    """x, weight, bias and a residual."""
    x, residual = random(*SHAPE, dtype=dtype), random(*SHAPE, seed=3, dtype=dtype)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    learned = random(3, seed=1, dtype=dtype), random(3, seed=2, dtype=dtype)
    return [each.requires_grad_() for each in (x, *learned, residual)]


def fused(x: Tensor, weight: Any, bias: Any, residual: Any) -> Tensor:
    return batch_norm_act(x, weight, bias, After("relu", residual=residual), eps=EPS, axis=1)[0]


def fused_given(x: Tensor, weight: Any, bias: Any) -> Tensor:
    """By given statistics; what follows is the same there."""
    return batch_norm_act(x, weight, bias, NOTHING, eps=EPS, axis=1, given=GIVEN)[0]


def composed(x: Tensor, weight: Any, bias: Any, residual: Any) -> Tensor:
    y = functional.batch_norm(x, None, None, weight, bias, True, 0.0, EPS)
    return functional.relu(y if residual is None else y + residual)


def composed_given(x: Tensor, weight: Any, bias: Any) -> Tensor:
    return functional.batch_norm(x, *(each.to(x.dtype) for each in GIVEN), weight, bias, False, 0.0, EPS)


@pytest.mark.parametrize("which", ["batch", "batch, last", "given"])
def test_first_and_second_derivative(which: str) -> None:
    """And both for many gradients from above at once."""
    inputs: list[Any] = leaves(last="last" in which)
    f = {"batch": fused, "batch, last": lambda *given: batch_norm(*given)[0], "given": fused_given}[which]
    inputs = inputs if which == "batch" else inputs[:3]
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True)


@pytest.mark.parametrize("given", [False, True], ids=["of the batch", "given"])
def test_derivatives_where_one_input_was_made_of_another(given: bool) -> None:
    """As in a block of ResNet, whose residual the input of the last norm was made of; and weights that are computed."""
    found = []
    for f in (fused_given, composed_given) if given else (fused, composed):
        residual, weight, _, _ = leaves()
        x = residual.sin() * residual
        scale = weight + x.mean((0, 2, 3))
        inputs = (x, scale, scale.exp()) if given else (x, scale, scale.exp(), residual)
        first = torch.autograd.grad(f(*inputs), [residual, weight, scale], random(*SHAPE, seed=4), create_graph=True)
        penalty = sum(each.square().sum() for each in first)
        found.append([*first, *torch.autograd.grad(penalty, [residual, weight])])
    for mine, theirs in zip(*found, strict=True):
        close(mine / theirs.abs().max(), theirs / theirs.abs().max())


@pytest.mark.parametrize("wanted", [wanted for n in range(5) for wanted in itertools.combinations(NAMES, n)], ids=str)
def test_gradients_of_some_inputs(wanted: tuple[str, ...]) -> None:
    """Are those that all together have; with one of them None there is one less."""
    inputs = dict(zip(NAMES, leaves(torch.float32), strict=True))
    dy = random(*SHAPE, seed=4, dtype=torch.float32)
    expected = dict(zip(NAMES, torch.autograd.grad(fused(**inputs), list(inputs.values()), dy), strict=True))
    for name, each in inputs.items():
        each.requires_grad_(name in wanted)
    y = fused(**inputs)
    assert y.requires_grad == bool(wanted)
    if not wanted:
        return
    y.backward(dy)
    for name, each in inputs.items():
        assert (each.grad is None) == (name not in wanted)
        assert each.grad is None or torch.equal(each.grad, expected[name])
    for missing in {"weight", "bias", "residual"} - set(wanted):
        less = inputs | {missing: None}
        theirs = torch.autograd.grad(composed(**less), [inputs[name] for name in wanted], dy)
        mine = torch.autograd.grad(fused(**less), [inputs[name] for name in wanted], dy)
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_statistics_are_constants() -> None:
    x, weight, bias, residual = leaves()
    y, statistics = fused_batch_norm(x, weight, bias, sets=1, eps=EPS, after=After("relu", residual=residual))
    assert (y.requires_grad, statistics.requires_grad, statistics.shape) == (True, False, (4, 3))
    moments = batch_norm(x, weight, bias)[1]
    exact = x.detach().movedim(1, 0).flatten(1)
    close(moments.mean, exact.mean(1))
    close(moments.var, exact.var(1))
    assert moments.count == exact.shape[1]
    assert not moments.mean.requires_grad


def test_what_is_kept_for_backward() -> None:
    """The inputs and the statistics: neither y nor what is between."""
    kept: list[Tensor] = []
    inputs = leaves(torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        fused(*inputs)
    assert {each.data_ptr() for each in inputs} < {each.data_ptr() for each in kept}
    assert sum(each.numel() for each in kept) == sum(each.numel() for each in inputs) + 4 * 3


def test_backward_twice() -> None:
    inputs, dy = leaves(torch.float32), random(*SHAPE, seed=4, dtype=torch.float32)
    y = fused(*inputs)
    first = torch.autograd.grad(y, inputs, dy, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(y, inputs, dy), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        torch.autograd.grad(y, inputs, dy)


@pytest.mark.parametrize("changed", NAMES)
def test_an_input_changed_in_place_is_noticed(changed: str) -> None:
    inputs = dict(zip(NAMES, leaves(torch.float32), strict=True))
    y = fused(**inputs)
    with torch.no_grad():
        inputs[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward(torch.ones_like(y))


def test_what_comes_out_may_be_changed_in_place() -> None:
    """It is not kept; and the gradients are tensors of their own."""
    inputs, dy = leaves(torch.float32), random(*SHAPE, seed=4, dtype=torch.float32)
    expected = torch.autograd.grad(fused(*inputs), inputs, 2 * dy)
    y = fused(*inputs)
    y.mul_(2).add_(1)
    y.backward(dy)
    for each, right in zip(inputs, expected, strict=True):
        torch.testing.assert_close(each.grad, right)
        each.grad.zero_()
    assert not any(each.grad.any() for each in inputs)
    for each in inputs:
        each.grad.add_(1).requires_grad_().square().sum().backward()


@given_or_not
@pytest.mark.parametrize("again", [False, True], ids=["", "to be differentiated again"])
def test_many_gradients_at_once(given: bool, again: bool) -> None:
    inputs, many = leaves()[: 3 if given else 4], random(5, *SHAPE, seed=4)
    y = fused_given(*inputs) if given else fused(*inputs)

    def one(dy: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(y, inputs, dy, retain_graph=True)

    singles = [torch.stack(each) for each in zip(*map(one, many), strict=True)]
    batched = torch.autograd.grad(y, inputs, many, is_grads_batched=True, retain_graph=True, create_graph=again)
    for found in (batched, torch.func.vmap(one)(many)):
        for mine, right in zip(found, singles, strict=True):
            close(mine / right.abs().max(), right / right.abs().max())


@pytest.mark.parametrize("flag", ["zero", "negative", "expanded"])
def test_a_gradient_that_does_not_lie_in_memory(flag: str) -> None:
    """PyTorch hands down zeros without memory, and numbers whose sign is a flag."""
    inputs, dy = leaves(torch.float32), random(*SHAPE, seed=4, dtype=torch.float32)
    given, plain = {
        "zero": lambda: (torch._efficientzerotensor(SHAPE), torch.zeros(SHAPE)),
        "negative": lambda: (torch._neg_view(dy), -dy),
        "expanded": lambda: (dy[:1, :, :1].expand(SHAPE), dy[:1, :, :1].repeat(4, 1, 8, 1)),
    }[flag]()
    y = fused(*inputs)
    for one, other in zip(*(torch.autograd.grad(y, inputs, each, retain_graph=True) for each in (given, plain)),
                          strict=True):  # fmt: skip
        assert torch.equal(one, other)


@last_or_not
@given_or_not
def test_opcheck(given: bool, last: bool) -> None:
    """PyTorch's own tests of a registration, forward and backward; those of the tracer cost a second each."""
    x, weight, bias, residual = leaves(torch.float32, last)
    known = torch.stack([*GIVEN, *GIVEN]) if given else None
    residual, activation = (None, "none") if given else (residual, "relu")
    forward = (x, weight, bias, residual, known, 1, EPS, activation, 0.01)
    op, back = torch.ops.normlab.fused_batch_norm.default, torch.ops.normlab.fused_batch_norm_backward.default
    cheap = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(op, forward, **({"test_utils": cheap} if last else {}))
    with torch.no_grad():
        statistics = op(*forward)[1] if known is None else known
        dy = random(*SHAPE, seed=4, dtype=torch.float32)
        opcheck(back, (dy, x, weight, bias, residual, statistics, given, 1, activation, 0.01), test_utils=cheap)


@last_or_not
@given_or_not
def test_compiled(given: bool, last: bool) -> None:
    """As one graph with the op in it, and the same to the bit, whatever the size of the batch."""
    targets = []

    def record(graph: torch.fx.GraphModule, examples: list[Tensor]) -> Any:
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    f = fused_given if given else fused
    torch.compiler.reset()
    compiled = torch.compile(f, fullgraph=True, backend=record)
    for batch in (4, 3, 2):
        found = []
        for each_f in (compiled, f):
            inputs = leaves(torch.float32, last)[: 3 if given else 4]
            inputs = [each.detach()[: batch if each.ndim == 4 else 3].clone().requires_grad_() for each in inputs]
            y = each_f(*inputs)
            found.append([y, *torch.autograd.grad(y, inputs, random(*y.shape, seed=4, dtype=torch.float32))])
        for one, other in zip(*found, strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()
    assert any("normlab.fused_batch_norm" in each for each in targets)


@of_torch_itself
def test_transforms_take_what_they_know() -> None:
    """Of `torch.func`, which find PyTorch's operations where nothing else was asked for."""
    (x, weight, bias, _), along = (each.detach() for each in leaves()), random(*SHAPE, seed=5)
    with pick.backend("auto"):

        def f(x: Tensor) -> Tensor:
            return batch_norm(x, weight, bias)[0]

        primal, tangent = torch.func.jvp(f, (x,), (along,))
        back = torch.func.vjp(f, x)[1](along)[0]
        many = torch.func.vmap(f)(torch.stack([x, along]))
    close(many[0], primal)
    close(many[1], batch_norm(along, weight, bias)[0])
    close((back * along).sum(), (along * tangent).sum())
    close(back, torch.autograd.grad(batch_norm(x.requires_grad_(), weight, bias)[0], x, along)[0])


@of_torch_itself
def test_forward_derivatives() -> None:
    inputs, along = [each.detach() for each in leaves()], random(*SHAPE, seed=5)
    with pick.backend("auto"), forward_ad.dual_level():
        dual = forward_ad.make_dual(inputs[0], along)
        tangent = forward_ad.unpack_dual(batch_norm(dual, *inputs[1:3])[0]).tangent
        expected = forward_ad.unpack_dual(functional.batch_norm(dual, None, None, *inputs[1:3], True, 0.0, EPS)).tangent
    close(tangent, expected)


@pytest.mark.parametrize("learned", [torch.float32, torch.bfloat16], ids=str)
def test_parameters_of_either_width(learned: torch.dtype) -> None:
    """Beside 16-bit values, as PyTorch takes them; a gradient has the dtype of what it is of."""
    x, weight, bias, residual = (each.detach() for each in leaves(torch.bfloat16))
    plain, after = (x, weight.to(learned), bias.to(learned)), After("relu", residual=residual)
    dy = away_from_the_kink(random(*SHAPE, seed=4, dtype=torch.bfloat16), *plain, after=after)
    inputs = [each.clone().requires_grad_() for each in (*plain, residual)]
    found = torch.autograd.grad(fused(*inputs), inputs, dy)
    assert [each.dtype for each in found] == [torch.bfloat16, learned, learned, torch.bfloat16]
    stock, exact = (by(*plain, dy, after=after) for by in (by_torch, by_reference))
    for mine, name in zip(found, NAMES, strict=True):
        beside_torch(mine, stock[f"d{name}"], exact[f"d{name}"], name)


def test_under_autocast() -> None:
    """Norms are computed in what comes in, as PyTorch does."""
    inputs = leaves(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        for x in (inputs[0], inputs[0].bfloat16()):
            y, stock = (
                batch_norm(x, *inputs[1:3])[0],
                functional.batch_norm(x, None, None, *inputs[1:3], True, 0.0, EPS),
            )
            assert y.dtype == stock.dtype == x.dtype
            torch.testing.assert_close(y, stock)


def test_what_a_kernel_would_read_beyond_is_refused() -> None:
    x = random(*SHAPE, dtype=torch.float32)
    for weight, bias, known, text in (
        (torch.ones(2), torch.ones(4), None,
         "batch_norm: `weight` must have 3 entries, one for each channel of `x`, and lie where it does.\n"
         "  got: weight (2,) float32 cpu; x (4, 3, 8, 7) float32 cpu\n"
         "batch_norm: `bias` must have 3 entries, one for each channel of `x`, and lie where it does.\n"
         "  got: bias (4,) float32 cpu; x (4, 3, 8, 7) float32 cpu"),
        (torch.ones(3, device="meta"), None, None,
         "batch_norm: `weight` must have 3 entries, one for each channel of `x`, and lie where it does.\n"
         "  got: weight (3,) float32 meta; x (4, 3, 8, 7) float32 cpu"),
        (None, None, torch.ones(4, 2),
         "batch_norm: `given` must have 3 entries, one for each channel of `x`, and lie where it does.\n"
         "  got: given (4, 2) float32 cpu; x (4, 3, 8, 7) float32 cpu"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError) as raised:
            fused_batch_norm(x, weight, bias, sets=1, eps=EPS, given=known)
        assert str(raised.value) == text
