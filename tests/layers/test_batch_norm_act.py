"""Batch norm by a kernel inside of a layer, with what follows it: the layer of PyTorch followed by the same."""

import copy
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.layers.oracle import close, learned, passed, random, same, statistics
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from normlab import functional_call, layers
from normlab.errors import InvalidInputError
from normlab.kernels import pick
from normlab.kernels.cpu import batch_norm as launcher
from normlab.layers import accumulate, stats_frozen
from normlab.ops.moments import Moments

SHAPE = (4, 3, 8, 7)


@pytest.fixture(autouse=True)
def by_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small tensors too; where there is none it is an error."""
    monkeypatch.setattr(launcher, "SHORT", 0)
    monkeypatch.setattr(launcher, "LONG", 0)
    with pick.backend("fused"):
        yield


def norm(**options: Any) -> nn.Module:
    return learned(layers.BatchNormAct2d(3, dtype=torch.float64, **options))


def x_of(seed: int = 0) -> torch.Tensor:
    return random(*SHAPE, seed=seed, mean=2.0)


OPTIONS: dict[str, dict[str, Any]] = {
    "as PyTorch": {},
    "average": {"momentum": None},
    "all at once": {"momentum": 1.0},
    "nothing": {"momentum": 0.0},
    "debiased": {"rule": "debiased"},
    "cumulative": {"rule": "cumulative"},
    "untracked": {"track_running_stats": False},
    "never": {"commit_when": "never"},
    "always": {"commit_when": "always", "normalize_with": "batch"},
    "running": {"normalize_with": "running", "commit_when": "never"},
    "both": {"normalize_with": "running", "commit_when": "always"},
    "without parameters": {"affine": False},
    "without bias": {"bias": False},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_statistics_of_steps_and_what_comes_after(name: str) -> None:
    """As those of the same layer by PyTorch's kernel, through training and evaluation."""
    found = []
    for backend in ("fused", "torch"):
        layer = norm(**OPTIONS[name])
        with pick.backend(backend):
            for training in (True, True, True, False, True):
                y, dx, *gradients = passed(layer.train(training), x_of(int(training)), x_of(5))
        found.append([y, dx, *gradients, *statistics(layer).values()])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs)


def test_beside_the_layer_of_pytorch() -> None:
    """Step by step, with an option of ours that is left as it is."""
    layer, stock = norm(), learned(nn.BatchNorm2d(3, dtype=torch.float64))
    for seed in range(3):
        y, *gradients = passed(layer, x_of(seed), x_of(5))
        expected = passed(lambda x: functional.relu(stock(x)), x_of(seed), x_of(5))
        close(y, expected[0])
        close(gradients[0], expected[1])
        for name, value in stock.state_dict().items():
            close(layer.state_dict()[name], value)


def test_without_a_count_of_batches() -> None:
    """As it is in weights from long ago."""
    layer, stock = norm(), nn.BatchNorm2d(3, dtype=torch.float64)
    layer.num_batches_tracked = stock.num_batches_tracked = None
    for each in (layer, stock):
        each(x_of())
    close(layer.running_mean, stock.running_mean)
    close(layer.running_var, stock.running_var)


@pytest.mark.parametrize("junk", [torch.nan, torch.inf, 1e308], ids=str)
def test_statistics_that_are_not_finite_are_refused_and_counted(junk: float) -> None:
    layer = norm()
    layer(x_of())
    before = statistics(layer)
    bad = x_of(1)
    bad[1, 1, 1, 1] = junk
    bad[2, 1, 1, 1] = -junk
    for _ in range(2):
        layer(bad)
    before["skipped_non_finite"] += 2
    assert same(statistics(layer), before)
    layer(x_of(2))
    assert not torch.equal(layer.running_mean, before["running_mean"])
    assert int(layer.num_batches_tracked) == 2


def test_scopes() -> None:
    """What takes the commit of a layer, takes that of a kernel."""
    found = []
    for backend in ("fused", "torch"):
        layer = norm()
        with pick.backend(backend):
            with accumulate(layer, 2):
                for seed in range(4):
                    layer(x_of(seed))
            with stats_frozen(layer):
                y = layer(x_of(4))
            outside, new = functional_call(layer, dict(layer.state_dict()), (x_of(5),))
        assert int(layer.num_batches_tracked) == 2
        found.append([y, outside, *statistics(layer).values(), *new.values()])
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs)


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
def test_under_checkpointing_there_is_one_commit(reentrant: bool) -> None:
    model = nn.Sequential(norm(), nn.Conv2d(3, 3, 1, dtype=torch.float64), norm(), nn.Conv2d(3, 2, 1).double())
    twin = copy.deepcopy(model)
    for seed in range(2):
        inputs = [x_of(seed).requires_grad_() for _ in range(2)]
        for y in (checkpoint(model, inputs[0], use_reentrant=reentrant), twin(inputs[1])):
            y.square().sum().backward()
        assert torch.equal(inputs[0].grad, inputs[1].grad)
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)
        assert same(statistics(twin), statistics(model))
    assert [model[at].skipped_recomputed for at in (0, 2)] == [2, 2]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "none"])
@pytest.mark.parametrize("shape", [SHAPE, (4, 3, 1, 1), (3, 1, 1), (1,)], ids=str)
def test_a_residual(activation: str, shape: tuple[int, ...], training: bool) -> None:
    """One of another shape is added in plain torch."""
    layer, plain = norm(activation=activation, slope=0.3).train(training), norm(activation="none").train(training)
    residual, dy = random(*shape, seed=7).requires_grad_(), x_of(5)
    follow = {"relu": functional.relu, "leaky_relu": lambda z: functional.leaky_relu(z, 0.3), "none": lambda z: z}
    with pick.backend("torch"):
        expected = follow[activation](plain(x_of()) + residual)
    in_one_kernel = shape == SHAPE and activation == "relu" and training  # another one for each would take seconds
    with pick.backend("fused" if in_one_kernel else "auto"):
        y = layer(x_of(), residual)
    mine, theirs = ([each, *torch.autograd.grad(each, [residual, *model.parameters()], dy)]
                    for each, model in ((y, layer), (expected, plain)))  # fmt: skip
    for one, other in zip(mine, theirs, strict=True):
        close(one, other)


def test_with_a_mask_pytorch_serves() -> None:
    mask = random(4, 8, 7, seed=3) > 0
    layer, plain = norm(), learned(layers.BatchNorm2d(3, dtype=torch.float64))
    with pick.backend("auto"):
        y = layer(x_of(), x_of(1), mask)
        close(y, functional.relu(plain(x_of(), mask) + x_of(1)))
    assert same(statistics(layer), statistics(plain))


def test_what_has_no_kernel_is_said_where_one_was_asked_for() -> None:
    fix = '  fix: choose "auto", which takes PyTorch\'s kernel where there is no other.'
    for layer, given, reason in (
        (norm(), (x_of(), x_of()[:1]), "the residual is not like it"),
        (norm(), (x_of()[:, :, ::2],), "its channels are neither second nor last, or it has gaps in memory"),
        (norm(activation="gelu"), (x_of(),), "gelu is computed to the precision of float32"),
        (norm(axis=2), (x_of().transpose(1, 2),), "its channels are neither second nor last, or it has gaps in memory"),
    ):
        before = statistics(layer)
        with pytest.raises(InvalidInputError) as raised:
            layer(*given)
        text = f"batch_norm: there is no fused kernel for this.\n  got: {reason}; x {tuple(given[0].shape)} float64 cpu"
        assert str(raised.value) == f"{text}\n{fix}"
        assert same(statistics(layer), before)


@pytest.mark.parametrize("kind", [layers.BatchNorm2d, layers.BatchNormAct2d])
def test_over_several_processes_there_is_no_kernel(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, seen = kind(3, synced=True), []

    def together(x: torch.Tensor, *given: Any, **how: Any) -> tuple[torch.Tensor, Moments]:
        seen.append(x)
        return x, Moments(torch.ones(3), torch.ones(3), 5)

    monkeypatch.setattr("normlab.layers.batch_norm.sync_batch_norm", together)
    layer(x_of())
    assert not seen
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    layer(x_of())
    assert len(seen) == 1


def test_what_does_not_normalize_the_batch_as_one_has_no_kernel_of_its_own() -> None:
    """Its parts have; each compared with PyTorch's kernel."""
    for make in (lambda: layers.GhostBatchNorm2d(3, 2), lambda: layers.BatchRenorm2d(3, schedule=(0, 0, 0))):
        found = []
        for backend in ("fused", "torch"):
            layer = learned(make().double())
            with pick.backend(backend):
                found.append([*passed(layer, x_of(), x_of(5)), *statistics(layer).values()])
        for mine, theirs in zip(*found, strict=True):
            close(mine, theirs)


def test_in_a_mode_of_fake_tensors() -> None:
    """In which memory is estimated: PyTorch's kernel, and no look at numbers that are not there."""
    with pick.backend("auto"), FakeTensorMode():
        for size in (2, 2000):
            for layer in (layers.BatchNorm2d(3), layers.BatchNormAct2d(3)):
                x = torch.empty(size, *SHAPE[1:]).requires_grad_()
                y = layer(x)
                y.sum().backward()
                assert (y.shape, x.grad.shape) == (x.shape, x.shape)


def test_what_is_refused() -> None:
    """As by the layer without a kernel."""
    too_few = (
        "BatchNormAct2d: Expected more than 1 value per channel when training.\n"
        "  got: input (1, 3, 1, 1) float64 cpu\n"
        "  fix: pass more samples (`drop_last=True` for the last of a loader), or `eval()` if this is evaluation."
    )
    channels = (
        "BatchNormAct2d: `input` must have 3 channels in dimension 1.\n  got: input (4, 2, 8, 7) float64 cpu\n"
        "  fix: build the layer as BatchNormAct2d(2)."
    )
    for layer, x, text in (
        (norm(), x_of()[:1, :, :1, :1].clone(), too_few),
        (norm(), x_of()[:, :2].contiguous(), channels),
        (norm(), x_of()[0], "expected 4D input (got 3D input)"),
        (norm(eps=0.0), x_of(),
         "BatchNormAct2d: eps must be positive in training, where a channel may have no spread.\n  got: eps = 0.0\n"
         "  fix: PyTorch's is 1e-5."),
    ):  # fmt: skip
        before = statistics(layer)
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            layer(x)
        assert same(statistics(layer), before)
    with pick.backend("auto"):
        assert norm().eval()(x_of()[:1, :, :1, :1].clone()).shape == (1, 3, 1, 1)


def test_an_empty_batch() -> None:
    layer, stock = norm(), nn.BatchNorm2d(3, dtype=torch.float64)
    with pick.backend("auto"):
        assert layer(x_of()[:0]).shape == stock(x_of()[:0]).shape
        assert layer.eval()(x_of()[:0], x_of()[:0]).shape == (0, *SHAPE[1:])
    for name, value in stock.state_dict().items():
        assert name in ("weight", "bias") or torch.equal(layer.state_dict()[name], value)


def test_an_unknown_activation() -> None:
    for word, fix in (
        ("rellu", "did you mean `relu`?"),
        ("tanh", "choose one of: none, relu, leaky_relu, silu, gelu."),
    ):
        with pytest.raises(InvalidInputError) as raised:
            layers.BatchNormAct1d(3, activation=word)
        assert str(raised.value) == (
            "BatchNormAct1d: `activation` must be one of none, relu, leaky_relu, silu, gelu.\n"
            f"  got: '{word}'\n  fix: {fix}"
        )
    with pytest.raises(InvalidInputError) as raised:
        layers.BatchNormAct3d(3, activaton="relu")
    assert str(raised.value) == "BatchNormAct3d: `activaton` is not an option.\n  fix: did you mean `activation`?"


def test_what_it_says_of_itself() -> None:
    start = "BatchNormAct2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True, "
    for options, said in (
        ({}, "activation=relu)"),
        ({"activation": "relu"}, "activation=relu)"),
        ({"activation": "silu"}, "activation=silu)"),
        ({"activation": "leaky_relu", "slope": 0.2, "axis": -1}, "axis=-1, activation=leaky_relu, slope=0.2)"),
    ):
        assert repr(layers.BatchNormAct2d(3, **options)) == start + said


def test_copies_keep_what_follows() -> None:
    layer = norm(activation="leaky_relu", slope=0.3, axis=-3)
    with pick.backend("torch"):
        layer(x_of())
        expected = layer.eval()(x_of(1), x_of(2))
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  # our own bytes
            assert (other.activation, other.slope, other.axis) == ("leaky_relu", 0.3, -3)
            assert torch.equal(other(x_of(1), x_of(2)), expected)


class Block(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.norm = norm(**options)

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.norm(x, residual) + self.norm(x)


def test_followed_by_fx_as_a_whole() -> None:
    """The layer with its residual is one node: what follows it is in it, and not once more behind it."""
    block = Block().eval()
    with pick.backend("auto"):
        traced = torch.fx.symbolic_trace(block)
        assert [node.op for node in traced.graph.nodes].count("call_module") == 2
        assert "relu" not in traced.code
        close(traced(x_of(), x_of(1)), block(x_of(), x_of(1)))


def test_compiled_whole() -> None:
    """Its running statistics too; forward, backward and evaluation."""
    block = Block()
    twin = copy.deepcopy(block)
    torch.compiler.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    for training in (True, True, False):
        found = []
        for model, call in ((block, compiled), (twin, twin)):
            model.train(training)
            x, residual = x_of(int(training)).requires_grad_(), x_of(2).requires_grad_()
            with pick.backend("fused" if training else "torch"):
                y = call(x, residual)
            found.append([y, *torch.autograd.grad(y, [x, residual, *model.parameters()], x_of(5))])
        for one, other in zip(*found, strict=True):
            close(one, other)
    for name, value in statistics(twin).items():
        close(statistics(block)[name], value)


def test_channels_last_in_name_or_in_memory() -> None:
    expected = norm(activation="none")(x_of())
    last = norm(activation="none")(x_of().contiguous(memory_format=torch.channels_last))
    named = norm(activation="none", axis=-1)(x_of().movedim(1, -1).contiguous())
    assert last.stride() == x_of().contiguous(memory_format=torch.channels_last).stride()
    close(last, expected)
    close(named.movedim(-1, 1), expected)


def test_statistics_of_another_size_are_refused() -> None:
    layer = norm().eval()
    layer.running_mean, layer.running_var = torch.zeros(2), torch.ones(2)
    with pytest.raises(InvalidInputError) as raised:
        layer(x_of())
    assert str(raised.value) == (
        "batch_norm: `given` must have 3 entries, one for each channel of `x`, and lie where it does.\n"
        "  got: given (4, 2) float64 cpu; x (4, 3, 8, 7) float64 cpu"
    )


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@pytest.mark.parametrize("backend", ["torch", "fused"])
def test_a_parametrization_computes_the_weight(backend: pick.Choice) -> None:
    layer, x = norm(), x_of()
    with torch.no_grad():
        expected = norm()
        expected.weight.mul_(2)
    parametrize.register_parametrization(layer, "weight", Doubled())
    with pick.backend(backend):
        torch.testing.assert_close(layer(x), expected(x))
        layer(x).square().sum().backward()
    assert layer.parametrizations["weight"].original.grad is not None
