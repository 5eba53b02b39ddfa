"""What is not fused, and why: wherever the graph of a forward might not be what the forward does next time."""

import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tolerances import TRAINING
from tests.tools.blocks import Residual
from tests.tools.test_accelerate import assert_same, built, changes
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from normlab import accelerate_
from normlab.errors import InvalidInputError
from normlab.tools import fusing
from normlab.tools.answers import answers_of, moved_by_roundings, tolerance
from normlab.tools.recognized import Follows
from normlab.tools.report import Report

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Base(nn.Module):
    """A norm, a linear layer, and activations."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1d(4)
        self.bn2 = nn.BatchNorm1d(4)
        self.act = nn.SiLU()
        self.bias = nn.Parameter(torch.ones(4))
        self.start = nn.Parameter(torch.arange(20.0).view(5, 4).sin())


class DefaultNone(Base):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = functional.silu(self.bn(x))
        return y if mask is None else y * mask


class ByType(Base):
    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, tuple):
            x = x[0]
        return functional.silu(self.bn(x))


class ByMode(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return functional.silu(y) if self.training else y


class ByModeLayers(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return self.linear(y) if self.training else self.act(y)


class ByData(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.bn(x))
        return y + 1 if y.sum() > 0 else y


class ByConfig(Base):
    def __init__(self) -> None:
        super().__init__()
        self.config = {"activate": True}

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return functional.silu(y) if self.config["activate"] else y


class ByPart(Base):
    """What it reads of a layer is a tensor, and might be another one."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return functional.silu(y) if hasattr(self, "other") else y + y


class Counts(Base):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return functional.silu(self.bn(x))


class Sets(Base):
    def forward(self, x: Tensor) -> Tensor:
        setattr(self, "last", x)  # noqa: B010  # past what the source shows
        return functional.silu(self.bn(x))


class Logs(Base):
    def forward(self, x: Tensor) -> Tensor:
        logging.debug("called")
        return functional.silu(self.bn(x))


class Context(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = x * 2
        return functional.silu(self.bn(x))


class Decorated(Base):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.bn(x))


class Checkpointed(Base):
    def inner(self, x: Tensor) -> Tensor:
        return functional.silu(self.bn(x))

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False)


class Many(Base):
    def forward(self, *args: Tensor) -> Tensor:
        return functional.silu(self.bn(args[0]))


class Features(Base):
    """Its features are asked for by others, past its forward."""

    def features(self, x: Tensor) -> Tensor:
        return functional.silu(self.bn(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


class OwnPickle(Base):
    def __reduce__(self) -> Any:
        return OwnPickle, ()

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.bn(x))


def replaced() -> nn.Module:
    model = Residual(4, 4)
    model.forward = functools.partial(model.forward)
    return model


CALLS = ", which calls it, "
WHY: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "default of None": (DefaultNone, "decides by `mask is None`"),
    "type": (ByType, "decides by `isinstance(x, tuple)`"),
    "mode": (ByMode, "does something else in train mode than in eval mode"),
    "layers by mode": (ByModeLayers, "does something else in train mode than in eval mode"),
    "data": (
        ByData,
        "cannot be followed: TraceError: symbolically traced variables cannot be used as inputs to control flow",
    ),
    "config": (ByConfig, "reads `config`, which may change (dict)"),
    "what is there": (ByPart, "decides by `hasattr(self, 'other')`"),
    "counter": (Counts, "writes into `count`"),
    "attribute": (Sets, "writes into `last`"),
    "log": (Logs, "calls `logging.debug('called')` for what that does"),
    "context": (Context, "has a `with`"),
    "decorator": (Decorated, "takes any number of arguments"),
    "checkpoint": (Checkpointed, "computes inside of `torch.checkpoint`"),
    "any number": (Many, "takes any number of arguments"),
    "method": (Features, "does so in `features`, which others may call too"),
    "own pickle": (OwnPickle, "is pickled in a way of its own"),
}


@pytest.mark.parametrize("name", WHY)
def test_a_forward_that_may_do_something_else(name: str) -> None:
    make, reason = WHY[name]
    model, twin = built(make), built(make)
    report = accelerate_(model, X)
    word = type(model).__name__
    assert changes(report)[0] == f"ours; {word}{CALLS}{reason}"
    if name in ("decorator", "checkpoint"):  # no gradients; statistics that ours does not commit twice
        torch.testing.assert_close(model(X), twin(X), rtol=TRAINING, atol=TRAINING)
    else:
        assert_same(model, twin, X)


class Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_forward_that_was_replaced() -> None:
    model = Holder(replaced()).double()
    twin = copy.deepcopy(model)
    x = torch.randn(3, 4, 3, 3).double()
    report = accelerate_(model)
    word = "Residual `inner`, which calls it, has a forward that was replaced by another function"
    assert changes(report) == [f"ours; {word}; pass `example`, to see what follows"] * 2
    torch.testing.assert_close(model(x), twin(x))


class Says(Base):
    def forward(self, x: Tensor) -> Tensor:
        if x is None:
            return x
        return self.act(self.bn(self.linear(self.bn2(x))))


def test_an_example_is_asked_for_where_it_helps() -> None:
    model = built(Says)
    twin = copy.deepcopy(model)
    word = "ours; Says, which calls it, decides by `x is None`; pass `example`, to see what follows"
    assert changes(accelerate_(copy.deepcopy(model))) == [word] * 2
    assert changes(accelerate_(model, X)) == ["ours, with silu", "ours"]
    assert_same(model, twin, X)


class Mutates(Base):
    def __init__(self, do: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        return self.do(self, x)


def _alias(m: Any, x: Tensor) -> Tensor:
    out = m.linear(x)
    identity = out
    out += m.bn(out)
    return torch.relu(out) + identity


def _alias_of_norm(m: Any, x: Tensor) -> Tensor:
    out = m.bn(x)
    identity = out
    out += x
    return out * identity


def _into_input(m: Any, x: Tensor) -> Tensor:
    y = m.linear(x).sigmoid_()
    x = x * 1
    x += m.bn(y)
    return torch.relu(x)


def _into_argument(m: Any, x: Tensor) -> Tensor:
    x += m.bn(m.linear(x))
    return torch.relu(x)


def _into_argument_alone(m: Any, x: Tensor) -> Tensor:
    x += m.bn(m.start)
    return torch.relu(x)


def _into_fresh(m: Any, x: Tensor) -> Tensor:
    residual = m.linear(x)
    residual += m.bn(x)
    return torch.relu(residual)


def _input_changed(m: Any, x: Tensor) -> Tensor:
    x = x * 1
    y = m.bn(x)
    x.mul_(2)
    return torch.relu(y + x)


def _input_changed_by_view(m: Any, x: Tensor) -> Tensor:
    x = x * 1
    y = m.bn(x.view(-1, 4))
    x.add_(1)
    return torch.relu(y + x)


def _residual_changed_later(m: Any, x: Tensor) -> Tensor:
    r = x * 1
    z = m.bn(x) + r
    r.mul_(3)
    return functional.silu(z) + r


def _residual_changed_before(m: Any, x: Tensor) -> Tensor:
    r = x * 1
    y = m.bn(x)
    r.mul_(3)
    return functional.silu(y + r)


def _twice(m: Any, x: Tensor) -> Tensor:
    y = m.bn(x)
    return torch.relu(y) + y


def _itself(m: Any, x: Tensor) -> Tensor:
    y = m.bn(x)
    return functional.silu(y + y)


def _constant(m: Any, x: Tensor) -> Tensor:
    return functional.silu(m.bn(x) + 1)


def _parameter(m: Any, x: Tensor) -> Tensor:
    return functional.silu(m.bn(x) + m.bias)


def _scaled(m: Any, x: Tensor) -> Tensor:
    return functional.silu(torch.add(m.bn(x), x, alpha=2))


def _thrice(m: Any, x: Tensor) -> Tensor:
    return functional.silu(m.bn(functional.silu(m.bn(x))))


def _reads(m: Any, x: Tensor) -> Tensor:
    return functional.silu(m.bn(x)) + m.bn.weight


def _both(m: Any, x: Tensor) -> Tensor:
    return functional.silu(m.bn(x) + m.bn2(m.linear(x)))


def _three(m: Any, x: Tensor) -> Tensor:
    return functional.silu(m.bn(x) + m.linear(x) + x)


def _by_name(m: Any, x: Tensor) -> Tensor:
    return functional.silu(input=m.bn(x))


def _norm_by_name(m: Any, x: Tensor) -> Tensor:
    return functional.silu(m.bn(input=x))


MORE = "its output is read by more than what follows it"
PLACES: list[tuple[Callable[[Any, Tensor], Tensor], list[str]]] = [
    (_alias, ["ours; its output is added in place to a value that others may read", "ours"]),
    (_alias_of_norm, ["ours; its output is read by more than what follows it", "ours"]),
    (_into_input, ["ours; its output is added in place to a value that others may read", "ours"]),
    (_into_argument, ["ours; its output is added in place to a value that others may read", "ours"]),
    (_into_argument_alone, ["ours; its output is added in place to a value that others may read", "ours"]),
    (_into_fresh, ["ours, with add and relu", "ours"]),
    (_input_changed, ["ours; its input may be changed in place before what follows it", "ours"]),
    (_input_changed_by_view, ["ours; its input may be changed in place before what follows it", "ours"]),
    (_residual_changed_later, ["ours, with add and silu", "ours"]),
    (_residual_changed_before, ["ours; its input may be changed in place before what follows it", "ours"]),
    (_twice, [f"ours; {MORE}", "ours"]),
    (_itself, ["ours", "ours"]),
    (_constant, ["ours", "ours"]),
    (_parameter, ["ours", "ours"]),
    (_scaled, ["ours", "ours"]),
    (_thrice, ["ours; the forward calls it several times", "ours"]),
    (_reads, ["ours; the forward reads its tensors", "ours"]),
    (_both, ["ours", "ours, with add and silu"]),
    (_three, ["ours, with add", "ours"]),
    (_by_name, ["ours, with silu", "ours"]),
    (_norm_by_name, ["ours; it is called with more than its input, or by a keyword", "ours"]),
]


# these change what PyTorch has saved for the backward, so that they have none
FORWARD_ONLY = {_alias, _into_argument, _input_changed, _input_changed_by_view}


@pytest.mark.parametrize("given", [True, False], ids=["with an example", "without"])
@pytest.mark.parametrize(("do", "expected"), PLACES, ids=[do.__name__ for do, _ in PLACES])
def test_what_is_written_and_read_around_a_norm(
    do: Callable[[Any, Tensor], Tensor], expected: list[str], given: bool
) -> None:
    model = built(lambda: Mutates(do)).requires_grad_(do not in FORWARD_ONLY)
    twin = copy.deepcopy(model)
    assert changes(accelerate_(model, X if given else None)) == expected
    if do not in FORWARD_ONLY:
        assert_same(model, twin, X)
    for training in (True, False):
        one, other = X.clone(), X.clone()
        y, expected_y = model.train(training)(one), twin.train(training)(other)
        torch.testing.assert_close(y, expected_y, rtol=TRAINING, atol=TRAINING)
        assert torch.equal(one, other)


class Switch(Base):
    """A constant of the module decides."""

    def __init__(self, adds: bool = True) -> None:
        super().__init__()
        self.adds = adds
        self.more = None
        self.register_module("last", None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        if self.more is not None:
            y = self.more(y)
        if self.last is not None:
            y = self.last(y)
        return functional.silu(y + x) if self.adds else functional.silu(y)


def test_constants_hold_or_it_says_so() -> None:
    for adds in (True, False):
        model = built(lambda adds=adds: Switch(adds))
        twin = copy.deepcopy(model)
        assert changes(accelerate_(model))[0] == ("ours, with add and silu" if adds else "ours, with silu")
        assert_same(model, twin, X)
        model.adds = not adds
        with pytest.raises(InvalidInputError) as raised:
            model(X)
        assert str(raised.value) == (
            "Switch: `adds` is part of the forward that `accelerate_` rewrote, and cannot be changed afterwards.\n"
            f"  got: {not adds}, which was {adds}\n"
            "  fix: set it before `accelerate_`."
        )
        model.adds = int(adds)  # equal, but another type may be another way
        with pytest.raises(InvalidInputError, match="which was"):
            model(X)
        model.adds = adds
        model.more = nn.Tanh()
        with pytest.raises(InvalidInputError, match="`more` is part of the forward"):
            model(X)
        model.more, model.last = None, nn.Tanh()
        with pytest.raises(InvalidInputError, match="is part of the forward"):
            model(X)


class SwitchLayer(Base):
    def __init__(self) -> None:
        super().__init__()
        self.activates = True

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return self.act(y) if self.activates else y


def test_a_constant_that_decides_on_a_layer() -> None:
    model = built(SwitchLayer)
    twin = copy.deepcopy(model)
    assert changes(accelerate_(model)) == ["ours, with silu", "ours"]
    assert_same(model, twin, X)
    model.activates = False
    with pytest.raises(InvalidInputError, match="`activates` is part of the forward"):
        model(X)


def hooked(which: str, register: str) -> nn.Module:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.ReLU(), nn.Linear(4, 4))
    part = {"norm": model[0][1], "activation": model[1], "chain": model[0]}[which]
    getattr(part, register)(lambda *_: None)
    return model.double()


HOOKS = ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]


@pytest.mark.parametrize("given", [True, False], ids=["with an example", "without"])
@pytest.mark.parametrize("register", HOOKS)
@pytest.mark.parametrize("which", ["norm", "activation"])
def test_hooks_go_on_seeing_what_they_saw(which: str, register: str, given: bool) -> None:
    model = hooked(which, register)
    report = accelerate_(model, X if given else None)
    assert changes(report) == [f"ours; {'it' if which == 'norm' else 'ReLU after it'} has hooks"]


class Plain(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


def test_a_hook_on_the_activation_of_a_forward() -> None:
    model = Plain()
    model.act.register_forward_hook(lambda *_: None)
    assert changes(accelerate_(model)) == ["ours; SiLU after it has hooks", "ours"]


def test_a_hook_on_what_is_around_a_norm() -> None:
    model = hooked("chain", "register_forward_hook")
    assert changes(accelerate_(model)) == ["ours"]
    seen: list[Tensor] = []
    model = hooked("norm", "register_forward_hook")
    model[0][1]._forward_hooks.clear()
    model[0].register_forward_hook(lambda _, inputs, output: seen.append(output))
    assert changes(accelerate_(model, X)) == ["ours; its output is also read by somebody who keeps it after the run"]


class Taps(nn.Module):
    """A chain that is not called, but gone through."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4), nn.ReLU())

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number == 1:
                found.append(x)
        return [*found, x]


def test_a_chain_that_is_taken_apart() -> None:
    model = built(Taps)
    twin = copy.deepcopy(model)
    alone = copy.deepcopy(model)
    word = "ours; Taps takes `layers` apart; pass `example`, to see who reads its output"
    assert changes(accelerate_(alone)) == [word] * 2
    assert changes(accelerate_(model, X)) == ["ours; its output is also read by the caller of the model", RELU]
    assert_same(model, twin, X)


RELU = "ours, with relu"


def test_an_activation_at_several_places() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.BatchNorm1d(4), relu, nn.Linear(4, 4), relu).double()
    twin = copy.deepcopy(model)
    alone = copy.deepcopy(model)
    assert changes(accelerate_(alone)) == ["ours; ReLU after it stands at 2 places"]
    assert changes(accelerate_(model, X)) == ["ours; ReLU after it gets other values too"]
    assert_same(model, twin, X)


class Elsewhere(nn.Module):
    """Calls the norm of its block past that block."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Mutates(_by_name)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.block.bn(x)


def test_a_norm_that_is_called_past_its_module() -> None:
    model = built(Elsewhere)
    twin = copy.deepcopy(model)
    report = accelerate_(model, X)
    assert changes(report)[0] == "ours; it is called elsewhere than in Mutates `block` too"
    assert_same(model, twin, X)


def classes(model: nn.Module) -> list[type]:
    return [type(each) for each in model.modules()]


def state(model: nn.Module) -> list[Any]:
    return [(name, value.clone()) for name, value in model.state_dict().items()]


def assert_untouched(model: nn.Module, before: list[Any], its_classes: list[type], names: list[set[str]]) -> None:
    assert classes(model) == its_classes
    assert [set(vars(each)) for each in model.modules()] == names
    for (name, value), (other, held) in zip(before, state(model), strict=True):
        assert name == other
        assert torch.equal(value, held)
    assert all(each.grad is None for each in model.parameters())


def test_a_wrong_fusion_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the graph had told another activation than the forward has."""
    model = built(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()))
    before, its_classes, names = state(model), classes(model), [set(vars(each)) for each in model.modules()]
    monkeypatch.setattr(
        fusing, "let_do", lambda norm, its_class, _: fusing_let_do(norm, its_class, Follows(activation="silu"))
    )
    with pytest.raises(InvalidInputError) as raised:
        accelerate_(model, X)
    first, got, fix = str(raised.value).splitlines()
    assert first == "accelerate_: the accelerated model must compute what the model did; it is as before."
    assert got.startswith(("  got: the gradients in ", "  got: the outputs in "))
    assert got.endswith("relative on the example, more than 1.5e-08")
    assert fix == "  fix: accelerate parts of it one by one, to find the one that is not what its forward says."
    assert_untouched(model, before, its_classes, names)


fusing_let_do = fusing.let_do


class Fails(nn.Module):
    def __init__(self, when: str) -> None:
        super().__init__()
        self.inner = nn.Sequential(Residual(3, 4), nn.BatchNorm2d(4), nn.ReLU())
        self.when = when

    def forward(self, x: Tensor) -> Tensor:
        now = "train" if self.training else "eval"
        if self.when == now or (self.when == "ours" and "normlab" in type(self.inner[1]).__module__):
            raise ZeroDivisionError
        return self.inner(x)


@pytest.mark.parametrize("when", ["train", "eval", "ours"])
def test_what_the_model_raises_leaves_it_as_it_was(when: str) -> None:
    model = Fails(when)
    before, its_classes, names = state(model), classes(model), [set(vars(each)) for each in model.modules()]
    with pytest.raises(ZeroDivisionError):
        accelerate_(model, torch.randn(3, 3, 4, 4))
    assert_untouched(model, before, its_classes, names)
    assert model.training


def test_the_example_and_the_random_state_are_left_alone() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.ReLU()).double()
    x, held, random = X.clone(), state(model), torch.get_rng_state()
    accelerate_(model.eval(), {"input": x})
    assert torch.equal(x, X)
    assert torch.equal(random, torch.get_rng_state())
    assert not any(each.training for each in model.modules())
    assert all(torch.equal(value, other) for (_, value), (_, other) in zip(held, state(model), strict=True))


class Noise(nn.Module):
    """It is not the same twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + torch.randn(x.shape, generator=self.generator, dtype=x.dtype))


def test_roundings_of_the_weights_move_a_model_a_little() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
    before = state(model)
    moved = moved_by_roundings(model, X.float(), answers_of(model, X.float()))
    assert torch.finfo(torch.float32).eps < moved < tolerance(model, [])
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(before, state(model), strict=True))


def test_what_differs_by_itself_is_no_error_of_ours() -> None:
    report = accelerate_(Noise().double(), X)
    assert report.error is not None
    assert report.error > 0.01


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (3, "int"),
        (type("OptimizedModule", (nn.Sequential,), {})(nn.BatchNorm1d(2)), "OptimizedModule"),
        (nn.Sequential(nn.LazyBatchNorm1d()), "0.weight is lazy"),
    ],
    ids=["no model", "compiled", "lazy"],
)
def test_what_cannot_be_accelerated_at_all(model: Any, got: str) -> None:
    with pytest.raises(InvalidInputError, match=got):
        accelerate_(model)


def test_nothing_to_compare() -> None:
    with pytest.raises(InvalidInputError, match="outputs with finite values"):
        accelerate_(nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), torch.full((3, 4), torch.nan))


def test_a_report_speaks_of_every_norm() -> None:
    report: Report = accelerate_(nn.Sequential(nn.LocalResponseNorm(2), nn.LayerNorm(4), nn.BatchNorm1d(4)))
    assert report.title() == "2 of 3 norm layers accelerated"
    assert [each.reason for each in report.skipped] == [
        "LocalResponseNorm is none of the norms that have a counterpart in `normlab.layers`"
    ]
