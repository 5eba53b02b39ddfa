"""Frozen norms: the same output as in evaluation, statistics that do not move by a bit, and a way back."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.layers.combined import _made
from normlab.tools.evaluating import inference
from normlab.tools.freeze import freeze_, unfreeze_
from normlab.tools.frozen import freeze_layer
from normlab.tools.norms import ChannelsLast
from normlab.tools.reached import left_alone
from normlab.tools.report import Skipped, Touched

KEEPS = "keeps its running statistics, and normalizes with them"


class Activated(nn.BatchNorm2d):
    """As timm's `BatchNormAct2d`: it calls the function of torch itself, and has layers within."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Dropout(0.5), nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        y = functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self.act(self.drop(y))


class TheirStatistics(nn.Module):
    """No norm of torch, not called one, and with a layer within."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.running_mean.lerp_(x.mean(0), 0.1)
        return self.act(x - self.running_mean)


class Constants(nn.Module):
    """As the `FrozenBatchNorm2d` of torchvision and detectron2: nothing but buffers."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(8))


class FrozenBatchNorm2d(Constants):
    pass


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(8, momentum=None), (6, 8)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(8, momentum=0.3), (6, 8, 3, 2)),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(8, affine=False), (6, 8, 3, 2, 2)),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(8), (6, 8, 3)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(8, affine=True, track_running_stats=True), (6, 8, 4)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(8, track_running_stats=True), (6, 8, 3, 2)),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(8, track_running_stats=True), (6, 8, 3, 2, 2)),
    "Activated": (lambda: Activated(8), (6, 8, 3, 2)),
    "TheirStatistics": (TheirStatistics, (6, 8)),
    "ours 1d": (lambda: layers.BatchNorm1d(8, rule="debiased"), (6, 8)),
    "ours always": (lambda: layers.BatchNorm2d(8, commit_when="always"), (6, 8, 3, 2)),
    "ours renorm": (lambda: layers.BatchRenorm2d(8, schedule=(0, 0, 0)), (6, 8, 3, 2)),
    "ours ghost": (lambda: layers.GhostBatchNorm1d(8, 2), (6, 8)),
    "ours domains": (lambda: layers.DomainBatchNorm1d(8, ["real", "fake"]), (6, 8)),
    "ours instance": (lambda: layers.InstanceNorm2d(8, track_running_stats=True), (6, 8, 3, 2)),
    "last dimension": (lambda: ChannelsLast(nn.BatchNorm1d(8)), (6, 5, 8)),
}
each_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)


class Plus(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + 1


def parametrized(module: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(module, "weight", Plus())


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Values far from 0, so that a statistic that moves moves much."""
    return 1000 + 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(make())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    model(numbers(*shape))
    return model


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@each_layer
def test_a_frozen_layer_does_what_it_did_in_evaluation_and_no_bit_moves(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model = trained(make, shape)
    before, x = state(model), numbers(*shape, seed=1)
    with left_alone(model):
        expected = model.eval()(x)
    report = freeze_(model)
    assert (len(report.touched), report.skipped) == (1, ())
    model.train()
    if isinstance(model[0], Activated):
        assert model[0].drop.training  # only the statistics are frozen
        model[0].drop.p = 0.0
    assert torch.equal(model(x), expected)
    for _ in range(3):
        model(numbers(*shape, seed=2))
    model(torch.full(shape, torch.nan))
    assert_same(before, state(model))


@each_layer
def test_everything_is_back_after_unfreezing(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = trained(make, shape)
    twin = copy.deepcopy(model)
    held = [set(vars(each)) for each in model.modules()]
    freeze_(model, affine="frozen")
    assert not any(each.requires_grad for name, each in model.named_parameters() if "act" not in name)
    report = unfreeze_(model)
    assert len(report.touched) == 1
    assert [type(each) for each in model.modules()] == [type(each) for each in twin.modules()]
    assert [set(vars(each)) for each in model.modules()] == held
    assert all(each.requires_grad for each in model.parameters())
    x = numbers(*shape, seed=1)
    for each in (model, twin):
        torch.manual_seed(1)
        each(x)
    assert_same(state(model), state(twin))  # momentum, counter, rule: the next step is the same
    assert repr(model) == repr(twin)


@settings(max_examples=30, deadline=None)
@given(
    steps=st.integers(1, 4), seed=st.integers(0, 99), momentum=st.sampled_from([None, 0.0, 0.1, 1.0]),
    affine=st.sampled_from(["keep", "frozen", "trainable"]), learned=st.booleans(), scale=st.sampled_from([1.0, 1e18]),
)  # fmt: skip
@example(steps=1, seed=0, momentum=0.1, affine="frozen", learned=True, scale=1.0)
@example(steps=1, seed=0, momentum=0.1, affine="trainable", learned=False, scale=1e18)
def test_training_changes_no_bit_of_frozen_statistics(
    steps: int, seed: int, momentum: float | None, affine: Any, learned: bool, scale: float
) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=momentum), nn.Linear(4, 2))
    model[1].requires_grad_(learned)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)

    def step() -> None:
        optimizer.zero_grad()
        model(scale * torch.randn(5, 3)).square().mean().backward()
        optimizer.step()

    model(torch.randn(5, 3)).sum().backward()  # gradients that an optimizer would apply
    freeze_(model, affine=affine)
    before = state(model)
    if affine == "frozen":
        optimizer.step()
    for _ in range(steps):
        model.train()
        step()
    after = state(model)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(before[f"1.{name}"], after[f"1.{name}"])
    learns = affine == "trainable" or (affine == "keep" and learned)
    assert torch.equal(before["1.weight"], after["1.weight"]) != learns
    assert not torch.equal(before["0.weight"], after["0.weight"])


def test_the_mode_that_was_last_asked_for_holds_again() -> None:
    def after(start: bool, *then: Callable[[nn.Module], Any]) -> bool:
        model = nn.Sequential(nn.BatchNorm1d(8))
        model[0].train(start)
        freeze_(model)
        for each in then:
            each(model)
        assert model[0].training is False
        unfreeze_(model)
        return model[0].training

    def looked_at(model: nn.Module) -> None:
        with inference(model):
            model(torch.zeros(2, 8))

    def looked_at_by_ours(model: nn.Module) -> None:
        with left_alone(model):
            model.eval()

    assert after(True)
    assert not after(False)
    assert after(False, lambda model: model.train())
    assert not after(True, lambda model: model.eval())
    assert after(True, lambda model: model.eval(), lambda model: model.train())
    assert after(True, lambda model: setattr(model[0], "training", model[0].training))  # as tools restore a mode
    assert after(True, looked_at)
    assert not after(False, looked_at)
    assert after(True, looked_at_by_ours)
    assert not after(False, looked_at_by_ours)


def test_copies_and_pickles_are_frozen_and_can_be_unfrozen() -> None:
    model = trained(*LAYERS["BatchNorm2d"]).eval()
    calls = []
    model[0].register_forward_hook(lambda module, inputs, output: calls.append(type(module).__name__))
    x = numbers(6, 8, 3, 2)
    freeze_(model.train(), affine="frozen")
    model(x)
    assert calls == ["FrozenBatchNorm2d"]
    model[0]._forward_hooks.clear()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        again.train()
        assert torch.equal(again(x), model(x))
        assert_same(state(again), state(model))
        assert isinstance(again[0], nn.BatchNorm2d)
        unfreeze_(again)
        assert type(again[0]) is nn.BatchNorm2d
        assert again[0].training
        assert again[0].weight.requires_grad
    assert not model[0].weight.requires_grad


def test_a_pickle_is_read_where_no_layer_has_been_frozen_yet() -> None:
    written = pickle.dumps(trained(*LAYERS["BatchNorm2d"]).requires_grad_(False))
    model = pickle.loads(written)  # noqa: S301
    freeze_(model)
    written = pickle.dumps(model)
    _made.cache_clear()  # what a new process begins with
    again = pickle.loads(written)  # noqa: S301
    assert again.train()[0].training is False
    assert freeze_(again).skipped[0].same
    unfreeze_(again)
    assert type(again[0]) is nn.BatchNorm2d


def test_weights_can_be_loaded_into_frozen_layers() -> None:
    model, other = trained(*LAYERS["BatchNorm2d"]), nn.Sequential(nn.BatchNorm2d(8))
    freeze_(other)
    assert other.load_state_dict(model.state_dict()).missing_keys == []
    assert_same(state(model), state(other))
    assert torch.equal(other.train()(numbers(6, 8, 3, 2)), model.eval()(numbers(6, 8, 3, 2)))


@pytest.mark.parametrize("before", [True, False], ids=["compiled, then frozen", "frozen, then compiled"])
def test_a_compiled_model_is_frozen_too(before: bool) -> None:
    torch._dynamo.reset()
    model = nn.Sequential(nn.Conv2d(3, 8, 1), trained(*LAYERS["BatchNorm2d"])[0])
    x, expected = torch.randn(4, 3, 5, 5), None
    if not before:
        freeze_(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    if before:
        compiled(x)
        assert [each.name for each in freeze_(compiled).touched] == ["_orig_mod.1"]
    frozen = state(model)
    expected = copy.deepcopy(model).eval()(x)
    assert torch.equal(compiled.train()(x), expected)
    assert_same(frozen, state(model))
    unfreeze_(compiled)
    assert not torch.equal(compiled(x), expected)
    assert not torch.equal(frozen["1.running_mean"], model[1].running_mean)


def test_a_frozen_model_can_be_traced() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), trained(*LAYERS["BatchNorm2d"])[0])
    freeze_(model)
    x = torch.randn(4, 3, 5, 5)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1"]
    exported = torch.export.export(model, (x,)).module()
    before = state(model)
    for found in (traced.train()(x), exported(x)):
        assert torch.equal(found, model(x))
    assert_same(before, state(model))


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_model_is_frozen_too(reentrant: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    freeze_(model)
    before = state(model)
    checkpoint(model, torch.randn(4, 8, requires_grad=True), use_reentrant=reentrant).sum().backward()
    assert_same(before, state(model))


def test_scopes_of_statistics_leave_a_frozen_layer_frozen() -> None:
    model = trained(*LAYERS["BatchNorm2d"])
    x = numbers(6, 8, 3, 2, seed=1)
    freeze_(model)
    before, expected = state(model), model(x)
    with layers.accumulate(model, 2), layers.stats_frozen(model):
        assert torch.equal(model.train()(x), expected)
    with layers.accumulate(model, 2):
        assert torch.equal(model(x), expected)
    assert_same(before, state(model))
    assert type(model[0]).__name__ == "FrozenBatchNorm2d"
    unfreeze_(model)
    assert type(model[0]) is nn.BatchNorm2d


def test_freezing_by_not_tracking_is_seen_and_made_right() -> None:
    """As Lightning's `freeze_module` does it: statistics of the batch in training, of the layer after."""
    model = trained(*LAYERS["BatchNorm2d"])
    x = numbers(6, 8, 3, 2, seed=1)
    expected = copy.deepcopy(model).eval()(x)
    model[0].track_running_stats = False
    assert not torch.allclose(model(x), expected)
    report = freeze_(model)
    assert report.touched[0].change == (
        f"{KEEPS}; `track_running_stats=False` had it normalize with those of the batch in training"
    )
    assert torch.equal(model.train()(x), expected)
    unfreeze_(model)
    assert model[0].track_running_stats is False


def test_what_is_not_frozen_has_its_reason() -> None:
    still = nn.InstanceNorm2d(8, track_running_stats=True)
    still.track_running_stats = False
    model = nn.Sequential(
        nn.LayerNorm(8),
        nn.BatchNorm2d(8, track_running_stats=False),
        nn.InstanceNorm2d(8),
        still,
        FrozenBatchNorm2d(),
        nn.LocalResponseNorm(2),
        parametrized(nn.BatchNorm2d(8)),
        nn.Linear(8, 8),
    )
    before = [type(each) for each in model.modules()]
    report = freeze_(model)
    none = "it has no running statistics: in evaluation too it normalizes with those of its input"
    assert report.skipped == (
        Skipped("0", "LayerNorm(8)", "it has no running statistics"),
        Skipped("1", "BatchNorm2d(8)", none),
        Skipped("2", "InstanceNorm2d(8)", none),
        Skipped(
            "3",
            "InstanceNorm2d(8)",
            "`track_running_stats` was set to False after it was built, so that in evaluation too it normalizes with "
            "the statistics of its input: set it to True first",
        ),
        Skipped("4", "FrozenBatchNorm2d", "its statistics, weight and bias are constants", same=True),
        Skipped("5", "LocalResponseNorm(2)", "it has no running statistics"),
        Skipped(
            "6",
            "ParametrizedBatchNorm2d(8)",
            "its weight is computed by a parametrization: remove that, freeze, and register it again",
        ),
    )
    assert report.title() == "0 of 7 norm layers frozen, 1 already so"
    assert [type(each) for each in model.modules()] == before


def test_a_layer_that_was_changed_after_it_was_frozen_is_not_unfrozen() -> None:
    model = nn.Sequential(nn.BatchNorm2d(8))
    freeze_(model)
    parametrized(model[0])
    assert model.train()[0].training is False
    assert unfreeze_(model).skipped == (
        Skipped(
            "0",
            "ParametrizedFrozenBatchNorm2d(8)",
            "it was made a ParametrizedFrozenBatchNorm2d after it was frozen: undo that first",
        ),
    )
    parametrize.remove_parametrizations(model[0], "weight")
    unfreeze_(model)
    assert type(model[0]) is nn.BatchNorm2d


def test_what_should_be_known_of_a_layer_is_said() -> None:
    model = nn.Sequential(
        trained(*LAYERS["BatchNorm2d"])[0],
        nn.BatchNorm2d(8),
        nn.BatchNorm2d(8),
        trained(*LAYERS["Activated"])[0],
        layers.BatchNorm2d(8, normalize_with="batch"),
    )
    model[2].running_var[3] = torch.inf
    model[4].running_mean.add_(1)
    assert freeze_(model).touched == (
        Touched("0", "BatchNorm2d(8)", KEEPS),
        Touched("1", "BatchNorm2d(8)", f"{KEEPS}; they are those of a new layer"),
        Touched("2", "BatchNorm2d(8)", f"{KEEPS}; they are not finite"),
        Touched("3", "Activated(8)", "stays in evaluation mode, whatever its own forward makes of that"),
        Touched(
            "4",
            "BatchNorm2d(8)",
            "keeps its running statistics, and normalizes with those of the batch, as it is told to",
        ),
    )


def test_freezing_a_second_time_changes_nothing_but_what_is_asked() -> None:
    model = nn.Sequential(nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False))
    model[0].running_mean.add_(1)
    model[0].bias.requires_grad_(False)
    assert [each.change for each in freeze_(model, where="0").touched] == [KEEPS]
    again = freeze_(model)
    assert [each.name for each in again.touched] == ["1"]
    assert again.skipped == (Skipped("0", "FrozenBatchNorm1d(8)", "it is frozen already", same=True),)
    assert freeze_(model, affine="frozen").touched == (Touched("0", "FrozenBatchNorm1d(8)", "weight not trained"),)
    report = freeze_(model, affine="trainable")
    assert report.touched == (Touched("0", "FrozenBatchNorm1d(8)", "weight and bias can be trained"),)
    assert (model[0].weight.requires_grad, model[0].bias.requires_grad) == (True, True)
    unfreeze_(model)
    assert (model[0].weight.requires_grad, model[0].bias.requires_grad) == (True, False)
    assert unfreeze_(model).skipped[0] == Skipped("0", "BatchNorm1d(8)", "it is not frozen", same=True)


def test_a_weight_of_another_layer_is_left_to_it() -> None:
    model = nn.Sequential(nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.LayerNorm(8))
    model[1].weight = model[2].weight
    model[0].bias = model[1].bias
    report = freeze_(model, affine="frozen")
    assert [each.change.partition("; ")[2].partition("; ")[2] for each in report.touched] == [
        "weight and bias not trained",
        "weight left as before, being another layer's too",
    ]
    assert model[2].weight.requires_grad
    unfreeze_(model)
    assert all(each.requires_grad for each in model.parameters())


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.BatchNorm1d(8)
        self.layer1 = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.layer10 = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.alias = self.layer1[1]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (None, ["stem", "layer1.1", "layer10.1"]),
        ("layer1", ["layer1.1"]),
        ("layer1*", ["layer1.1", "layer10.1"]),
        (["stem", "layer10.1"], ["stem", "layer10.1"]),
        ("alias", ["layer1.1"]),
        ("*.1", ["layer1.1", "layer10.1"]),
        (lambda name, module: name == "alias" or "10" in name, ["layer1.1", "layer10.1"]),
        (lambda name, module: False, []),
        ([], []),
    ],
    ids=lambda each: "function" if callable(each) else str(each),
)
def test_which_norms_are_asked_for(where: Any, names: list[str]) -> None:
    model = Stages()
    assert sorted(each.name for each in freeze_(model, where).touched) == sorted(names)
    frozen = [name for name, each in model.named_modules() if getattr(each, "normlab_frozen", False)]
    assert sorted(frozen) == sorted(names)
    if names:
        assert sorted(each.name for each in unfreeze_(model, where).touched) == sorted(names)


def test_the_whole_model_may_be_the_norm() -> None:
    model = nn.BatchNorm1d(8)
    assert freeze_(model).touched[0].name == ""
    assert not model.train().training


def test_what_cannot_be_done_is_said_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        freeze_(Stages(), ["layer2", "layer1", "nothing"], affine="freeze")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "freeze_: `where` must name a norm layer.\n  got: 'layer2'\n  fix: did you mean `layer1`?\n"
        "freeze_: `where` must name a norm layer.\n  got: 'nothing'\n"
        "  fix: choose one of: stem, layer1, layer10, alias.\n"
        "freeze_: `affine` must say what becomes of weight and bias.\n  got: 'freeze'\n"
        "  fix: did you mean `frozen`?"
    )
    with pytest.raises(InvalidInputError) as caught:
        unfreeze_(nn.Sequential(nn.Linear(2, 2)), where=nn.BatchNorm1d)
    assert str(caught.value) == (
        "unfreeze_: `where` must be a name, names, or a function of a name and its norm layer.\n"
        "  got: <class 'torch.nn.modules.batchnorm.BatchNorm1d'>\n"
        '  fix: pass for instance "layer1" or ["layer1", "*.norm2"].'
    )
    with pytest.raises(InvalidInputError) as caught:
        unfreeze_(nn.Sequential(nn.Linear(2, 2)), where="layer1")
    assert str(caught.value) == (
        "unfreeze_: `where` must name a norm layer.\n  got: 'layer1'\n  fix: there is no norm layer."
    )
    with pytest.raises(InvalidInputError) as caught:
        freeze_(nn.Sequential(nn.LazyBatchNorm1d()))
    assert str(caught.value) == (
        "freeze_: `model` must have all its weights.\n  got: 0.weight is lazy\n  fix: pass one batch through it first."
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_model_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        freeze_(nn.Sequential(torch.jit.script(nn.BatchNorm1d(8))))
    assert str(caught.value) == (
        "freeze_: `model` must not be scripted: its layers have no class of their own.\n"
        "  got: ScriptModule\n  fix: freeze first, then script."
    )
    model = nn.Sequential(trained(*LAYERS["BatchNorm2d"])[0])
    freeze_(model)
    x = numbers(6, 8, 3, 2, seed=1)
    assert torch.equal(torch.jit.script(model)(x), model(x))


def test_a_model_wrapped_for_several_processes_keeps_what_is_trained() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)))
        with pytest.raises(InvalidInputError) as caught:
            freeze_(wrapped, affine="frozen")
        assert str(caught.value) == (
            "freeze_: what is trained cannot change in a wrapped model: its gradients are awaited.\n"
            '  got: DistributedDataParallel\n  fix: freeze first, then wrap, or pass affine="keep".'
        )
        assert [each.name for each in freeze_(wrapped).touched] == ["module.1"]
        before = state(wrapped)
        for _ in range(2):
            wrapped.train()(numbers(5, 8)).sum().backward()
        assert_same(before, state(wrapped))
    finally:
        torch.distributed.destroy_process_group()


def test_a_model_that_could_not_be_frozen_is_as_it_was() -> None:
    model = Stages().train()
    before = [(type(each), dict(vars(each))) for each in model.modules()]

    def fails(name: str, module: nn.Module) -> bool:
        if name == "layer10.1":
            raise RuntimeError("so it is")
        return True

    for tool in (freeze_, unfreeze_):
        with pytest.raises(RuntimeError, match="so it is"):
            tool(model, fails)
        assert [(type(each), vars(each)) for each in model.modules()] == before


def test_layers_frozen_before_one_that_fails_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Stages()
    model.stem.weight.requires_grad_(False)
    before = [(type(each), dict(vars(each))) for each in model.modules()]
    learned = [each.requires_grad for each in model.parameters()]

    def fails(module: nn.Module) -> None:
        if module is model.layer10[1]:
            raise RuntimeError("so it is")
        freeze_layer(module)

    monkeypatch.setattr("normlab.tools.freeze.freeze_layer", fails)
    with pytest.raises(RuntimeError, match="so it is"):
        freeze_(model, affine="trainable")
    assert [(type(each), vars(each)) for each in model.modules()] == before
    assert [each.requires_grad for each in model.parameters()] == learned
