"""What `recalibrate_` leaves alone, refuses, and sees through."""

import copy
import warnings
from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from tests.tolerances import POPULATION
from torch import nn

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.tools.freeze import freeze_, unfreeze_
from normlab.tools.norms import ChannelsLast
from normlab.tools.recalibrate import recalibrate_
from normlab.tools.recalibrate_batches import moved
from normlab.tools.recalibrate_order import in_call_order


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Pair = namedtuple("Pair", ["x", "name"])
BATCHES = [3 + 2 * drawn(count, 2, seed=count) for count in (4, 1, 6)]


def two() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2), nn.BatchNorm1d(2)).double()


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_untouched(model: nn.Module, before: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(values(model), before, rtol=0, atol=0)


def said(model: nn.Module, *args: Any, **settings: Any) -> str:
    before = values(model)
    with pytest.raises(InvalidInputError) as raised:
        recalibrate_(model, *args, **settings)
    assert_untouched(model, before)
    assert not any(module._forward_pre_hooks for module in model.modules())
    return str(raised.value)


def test_every_bad_argument_is_named_at_once() -> None:
    assert said(two(), BATCHES[0], "poled", order="layer", momentum=0.0, max_batches=0, where="norm") == (
        "recalibrate_: `where` must name a norm layer.\n"
        "  got: 'norm'\n"
        "  fix: choose one of: 0, 2.\n"
        "recalibrate_: `method` must say how batches become one.\n"
        "  got: 'poled'\n"
        "  fix: did you mean `pooled`?\n"
        "recalibrate_: `order` must say which layer comes when.\n"
        "  got: 'layer'\n"
        "  fix: did you mean `layers`?\n"
        "recalibrate_: `momentum` must lie in (0, 1].\n"
        "  got: momentum = 0.0\n"
        "  fix: pass 0.1.\n"
        "recalibrate_: `max_batches` must be at least 1.\n"
        "  got: max_batches = 0\n"
        "  fix: pass None for all.\n"
        "recalibrate_: `batches` must be several batches: a loader, a list, or a function that makes an iterator.\n"
        "  got: batches (4, 2) float64 cpu\n"
        "  fix: pass [x] for a single batch."
    )


def test_where_must_be_names_or_a_function() -> None:
    assert said(two(), BATCHES, where=[0]) == (
        "recalibrate_: `where` must be a name, names, or a function of a name and its norm layer.\n"
        "  got: [0]\n"
        '  fix: pass for instance "layer1" or ["layer1", "*.norm2"].'
    )


def test_momentum_belongs_to_the_moving_average() -> None:
    assert said(two(), BATCHES, momentum=0.1) == (
        "recalibrate_: `momentum` is the weight of the newest batch in a moving average.\n"
        '  got: momentum = 0.1 with method="pooled"\n'
        '  fix: pass method="ema".'
    )


def test_what_is_no_collection_of_batches() -> None:
    rule = "recalibrate_: `batches` must be a loader, a list, or a function that makes an iterator.\n  got: int"
    assert said(two(), 3) == rule
    assert "  got: dict\n" in said(two(), {"x": BATCHES[0]})


def test_what_gives_its_batches_once_cannot_serve_two_layers() -> None:
    assert said(two(), iter(BATCHES)) == (
        "recalibrate_: `batches` are gone through once for each of 2 layers.\n"
        "  got: list_iterator, which gives them only once\n"
        '  fix: pass a list, a loader or a function that makes the iterator, or order="one_pass".'
    )
    recalibrate_(two(), iter(BATCHES), order="one_pass")
    recalibrate_(two(), iter(BATCHES), where="2")


@pytest.mark.parametrize("order", ["layers", "one_pass"])
def test_values_that_are_not_finite_are_named(order: str) -> None:
    batches = copy.deepcopy(BATCHES)
    batches[2][0, 1] = torch.inf
    assert said(two(), batches, order=order) == (
        "recalibrate_: what enters a layer must be finite.\n"
        "  got: 0: BatchNorm1d(2), batch 2, counted from 0: NaN or infinity in channel 1\n"
        "  fix: leave that batch out; repair_ mends layers whose statistics are not finite."
    )
    wide = [torch.full((2, 8), torch.nan)]
    assert "NaN or infinity in channels 0, 1, 2, 3, 4, …" in said(nn.BatchNorm1d(8), wide, order=order)


def test_a_batch_of_one_value_has_no_variance() -> None:
    assert said(two(), BATCHES, "average") == (
        'recalibrate_: method="average" takes the variance of each batch, which needs two values a channel.\n'
        "  got: 0: BatchNorm1d(2), batch 1, counted from 0: one value a channel\n"
        '  fix: leave that batch out, or take method="pooled", where it counts as one value of all.'
    )
    flat = nn.InstanceNorm1d(2, track_running_stats=True)
    assert "needs two values a channel" in said(flat, [torch.randn(5, 2, 1)], "ema")
    recalibrate_(flat, [torch.randn(5, 2, 1)])


def test_a_single_value_in_all_has_no_variance() -> None:
    assert said(nn.BatchNorm1d(2).double(), BATCHES[1:2]) == (
        "recalibrate_: a variance needs two values a channel.\n"
        "  got: the model: BatchNorm1d(2): 1 in all the batches\n"
        "  fix: pass more data."
    )


def test_statistics_that_do_not_fit_into_half_precision() -> None:
    x = torch.tensor([[-300.0], [300.0]] * 2, dtype=torch.float16)
    assert said(nn.BatchNorm1d(1).half(), [x]) == (
        "recalibrate_: statistics must fit into float16, in which the layer keeps them.\n"
        "  got: the model: BatchNorm1d(1): 1.2e+05\n"
        "  fix: keep the layer in float32: PyTorch takes 16-bit inputs there."
    )


def test_empty_batches_and_layers_that_no_batch_reaches_are_left() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.linear = nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.used(x)
            return nn.functional.batch_norm(x, self.unused.running_mean, self.unused.running_var)

    model = Branch().double()
    model.unused.running_mean += 3
    report = recalibrate_(model, [BATCHES[0], BATCHES[0][:0], BATCHES[2]])
    assert model.used.running_var.allclose(torch.cat([BATCHES[0], BATCHES[2]]).var(0))
    assert report.touched[0].change.endswith(", from 2 of 3 batches, only 10 values a channel")
    assert [(each.name, each.reason, each.same) for each in report.skipped] == [
        ("unused", "no batch reaches it", False)
    ]
    assert model.unused.running_mean.equal(torch.full((2,), 3.0, dtype=torch.float64))


def test_frozen_layers_stay_frozen_and_their_statistics_too() -> None:
    model = two().train()
    freeze_(model, "0")
    before = values(model)
    for order in ("layers", "one_pass"):
        report = recalibrate_(model, BATCHES, order=order)
        assert [(each.name, each.reason) for each in report.skipped] == [("0", "it is frozen")]
        assert [each.name for each in report.touched] == ["2"]
        assert model[0].running_mean.equal(before["0.running_mean"])
        expected = torch.cat([model[1](model[0](batch)) for batch in BATCHES]).var(0)
        assert model[2].running_var.allclose(expected)
    unfreeze_(model)
    assert model[0].training  # what was asked for last is remembered still


def test_only_what_is_asked_for() -> None:
    model = two()
    report = recalibrate_(model, BATCHES, where=lambda name, module: name == "2")
    assert [each.name for each in report.touched] == ["2"]
    assert report.skipped == ()
    assert int(model[0].num_batches_tracked) == 0
    expected = torch.cat([model[1].eval()(batch / (1 + 1e-5) ** 0.5) for batch in BATCHES])
    assert model[2].running_mean.allclose(expected.mean(0))


def test_norms_that_hold_no_statistics_or_others_are_named() -> None:
    class FrozenBatchNorm2d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.ones(2))

    off = nn.InstanceNorm1d(2, track_running_stats=True)
    off.track_running_stats = False
    model = nn.ModuleDict({
        "layer": nn.LayerNorm(2), "batch": nn.BatchNorm1d(2, track_running_stats=False), "fixed": FrozenBatchNorm2d(),
        "instance": off, "last": ChannelsLast(nn.GroupNorm(1, 2)),
    })  # fmt: skip
    before = values(model)
    report = recalibrate_(model, BATCHES)
    assert_untouched(model, before)
    assert {each.name: each.reason for each in report.skipped} == {
        "layer": "it keeps no running statistics",
        "batch": "it keeps no running statistics",
        "fixed": "FrozenBatchNorm2d is no batch norm of PyTorch, and what its statistics mean is not known",
        "instance": "its track_running_stats is off, so that it never uses the statistics that it holds",
        "last.norm": "it keeps no running statistics",
    }


def test_tracking_switched_off_later() -> None:
    """../shared/hazards.md: such a batch norm uses in eval mode what it holds."""
    norm = nn.BatchNorm1d(2).double()
    norm.track_running_stats = False
    recalibrate_(norm, BATCHES)
    assert norm.running_var.allclose(torch.cat(BATCHES).var(0))


def test_a_norm_over_the_last_dimension() -> None:
    model = nn.Sequential(ChannelsLast(nn.BatchNorm1d(2))).double()
    x = drawn(3, 5, 2)
    assert recalibrate_(model, [x]).touched[0].name == "0.norm"
    assert model[0].norm.running_var.allclose(x.flatten(0, 1).var(0))


@pytest.mark.parametrize("method", ["pooled", "average"])
def test_our_layers_with_masks_and_channels_anywhere(method: str) -> None:
    batch, instance = layers.BatchNorm1d(2, axis=-1), layers.InstanceNorm1d(2, track_running_stats=True)
    x, lengths = drawn(3, 5, 2), torch.tensor([5, 0, 2])
    real = torch.arange(5) < lengths[:, None]
    junk = x.masked_fill(~real[..., None], torch.nan)
    recalibrate_(batch.double(), [junk], method, call=lambda model, x: model(x, real))
    recalibrate_(instance.double(), [junk.mT], method, call=lambda model, x: model(x, mask=real))
    together = x[real].numpy()
    np.testing.assert_allclose(batch.running_mean, together.mean(0), rtol=POPULATION)
    np.testing.assert_allclose(batch.running_var, together.var(0, ddof=1), rtol=POPULATION)
    rows = [together] if method == "pooled" else [x[0].numpy(), x[2, :2].numpy()]
    np.testing.assert_allclose(instance.running_mean, np.mean([each.mean(0) for each in rows], 0), rtol=POPULATION)
    np.testing.assert_allclose(
        instance.running_var, np.mean([each.var(0, ddof=1) for each in rows], 0), rtol=POPULATION
    )


def test_an_unbatched_sample_of_an_instance_norm() -> None:
    for method in ("pooled", "ema"):
        norm = nn.InstanceNorm1d(2, track_running_stats=True).double()
        recalibrate_(norm, [drawn(2, 7)], method)
        assert norm.running_var.allclose(drawn(2, 7).var(1))


@pytest.mark.parametrize("options", [{"commit_when": "always"}, {"rule": "debiased"}, {"normalize_with": "running"}])
@pytest.mark.parametrize("order", ["layers", "one_pass"])
def test_our_layers_that_commit_by_their_own_rules(options: dict[str, str], order: str) -> None:
    ours = nn.Sequential(layers.BatchNorm1d(2, **options), nn.Linear(2, 2), layers.BatchNorm1d(2, **options)).double()
    stock = two()
    stock.load_state_dict(ours.state_dict())
    recalibrate_(ours, BATCHES, order=order)
    recalibrate_(stock, BATCHES, order=order)
    torch.testing.assert_close(values(ours), values(stock), rtol=POPULATION, atol=POPULATION)
    assert [layer.skipped_recomputed for layer in (ours[0], ours[2])] == [0, 0]


def test_of_several_domains_the_one_in_use() -> None:
    """The call of another one, by its own statistics, is not counted."""
    model = nn.Sequential(layers.DomainBatchNorm1d(2, ["real", "fake"]), nn.Linear(2, 2), nn.BatchNorm1d(2)).double()

    def both(model: nn.Module, x: torch.Tensor) -> None:
        model(x)
        with layers.domain(model, "real"):
            model[0](x + 100)

    with layers.domain(model, "fake"):
        for order in ("layers", "one_pass"):
            recalibrate_(model, BATCHES, order=order, call=both)
    x = torch.cat(BATCHES)
    assert model[0].running_mean_fake.allclose(x.mean(0))
    assert model[0].running_var_fake.allclose(x.var(0))
    assert int(model[0].num_batches_tracked_fake) == 3
    assert model[0].running_mean.equal(torch.zeros(2))
    assert int(model[0].num_batches_tracked) == 0


def test_batch_renormalization_keeps_its_place_in_its_schedule() -> None:
    norm = layers.BatchRenorm1d(2).double()
    norm.num_batches_tracked.fill_(7000)
    recalibrate_(norm, BATCHES)
    assert norm.running_var.allclose(torch.cat(BATCHES).var(0))
    assert int(norm.num_batches_tracked) == 7000


class Routed(nn.Module):
    """Which norm comes first depends on the batch, and one is reached by some batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.BatchNorm1d(2) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 4:
            x = self.first(x)
        x = 3 * self.second(x) + x
        return self.last(x) if len(x) > 4 else x


def test_batches_that_take_different_ways() -> None:
    model = Routed().double()
    recalibrate_(model, BATCHES)
    model.eval()
    firsts = [batch if len(batch) == 4 else model.first(batch) for batch in BATCHES]
    assert model.first.running_var.allclose(torch.cat([BATCHES[1], BATCHES[2]]).var(0))
    assert model.second.running_var.allclose(torch.cat(firsts).var(0))
    assert model.last.running_var.allclose((3 * model.second(firsts[2]) + firsts[2]).var(0))


def test_an_order_out_of_those_of_several_batches() -> None:
    assert in_call_order([]) == []
    assert in_call_order([("b", "c"), ("a", "b"), ("b", "d", "c")]) == ["a", "b", "d", "c"]
    assert in_call_order([("a", "b"), ("b", "a")]) == ["a", "b"]
    assert in_call_order([("a", "b", "a", "c")]) == ["a", "b", "c"]


def test_a_model_that_catches_exceptions_does_not_catch_the_end_of_a_pass() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.fell = two(), False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                return self.inner(x)
            except Exception:
                self.fell = True
                return x

    model = Careful().double()
    recalibrate_(model, BATCHES)
    assert not model.fell


def test_compiled_parts_are_seen() -> None:
    """What was compiled before there was a hook calls none."""
    for compiled in (torch.compile(two(), backend="eager"), two()):
        if not hasattr(compiled, "_orig_mod"):
            compiled.compile(backend="eager")
        with torch.no_grad():
            for batch in BATCHES:
                compiled.eval()(batch)
        report = recalibrate_(compiled, BATCHES)
        assert len(report.touched) == 2
        norm = getattr(compiled, "_orig_mod", compiled)[0]
        assert norm.running_var.allclose(torch.cat(BATCHES).var(0))


def test_under_inference_mode_and_autocast() -> None:
    model, plain = two().float(), two().float()
    plain.load_state_dict(model.state_dict())
    batches = [batch.float() for batch in BATCHES]
    with torch.inference_mode():
        recalibrate_(model, batches)
    recalibrate_(plain, batches)
    torch.testing.assert_close(values(model), values(plain), rtol=0, atol=0)
    model.train()(batches[0]).sum().backward()  # the buffers are ordinary tensors still
    with torch.autocast("cpu", torch.bfloat16):
        recalibrate_(model, batches)
    assert model[0].running_mean.dtype == torch.float32


def test_batches_are_moved_to_where_the_model_is() -> None:

    class Own:
        def to(self, device: torch.device) -> str:
            return f"moved to {device}"

    meta = torch.device("meta")
    x = torch.zeros(2)
    found = moved({"a": [x, (x, 3)], "b": Pair(x, "n"), "c": Own()}, meta)
    devices = [found["a"][0].device, found["a"][1][0].device, found["b"].x.device]
    assert devices == [meta] * 3
    assert found["a"][1][1] == 3
    assert isinstance(found["b"], Pair)
    assert found["c"] == "moved to meta"


class FSDPModule(nn.Sequential):
    """By its name what PyTorch makes of a sharded model."""


def test_models_that_cannot_be_watched() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(two())
    assert said(FSDPModule(scripted), BATCHES) == (
        "recalibrate_: `model` must not be scripted: what enters its layers cannot be seen.\n"
        "  got: ScriptModule\n"
        "  fix: recalibrate first, then script.\n"
        "recalibrate_: `model` must not be sharded: each forward would wait for the other processes.\n"
        "  got: FSDPModule\n"
        "  fix: recalibrate first, then shard."
    )
    with pytest.raises(InvalidInputError) as raised:
        recalibrate_(nn.Sequential(nn.LazyLinear(2), nn.BatchNorm1d(2)), BATCHES)
    assert str(raised.value) == (
        "recalibrate_: `model` must have all its weights.\n"
        "  got: 0.weight is lazy\n"
        "  fix: pass one batch through it first."
    )


def test_hooks_of_the_users_come_first() -> None:
    """What a hook makes of the input is what is normalized."""
    norm = nn.BatchNorm1d(2).double()
    norm.register_forward_pre_hook(lambda module, args: (args[0] * 10,))
    recalibrate_(norm, BATCHES)
    assert norm.running_var.allclose(100 * torch.cat(BATCHES).var(0))
    assert len(norm._forward_pre_hooks) == 1
