"""Running statistics that are broken on purpose, and what becomes of them."""

import copy

import pytest
import torch
from torch import nn

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.tools.freeze import freeze_
from normlab.tools.recalibrate import recalibrate_
from normlab.tools.repair import repair_
from normlab.tools.report import Skipped, Touched

BATCHES = list(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).split(5))
NEVER = "statistics that never moved from mean 0 and variance 1"
SOUND = "its statistics are finite and have moved"


def network() -> nn.Sequential:
    """Healthy: its statistics are those of the data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.LayerNorm(3))
    recalibrate_(model, BATCHES)
    return model


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_a_sound_model_is_left_alone() -> None:
    model = network()
    before = values(model)
    for batches in (None, BATCHES, []):
        report = repair_(model, batches)
        assert report.title() == "0 of 3 norm layers repaired, 3 already so"
        assert report.skipped == (
            Skipped("1", "BatchNorm1d(3)", SOUND, same=True),
            Skipped("3", "BatchNorm1d(3)", SOUND, same=True),
            Skipped("4", "LayerNorm(3)", "it keeps no running statistics", same=True),
        )
        assert_same(values(model), before)


def test_one_infinite_sample_and_back() -> None:
    """../shared/hazards.md: mean inf and variance NaN, and still so after 500 clean batches."""
    model = network()
    sound = values(model)
    model.train()(torch.tensor([[torch.inf, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert not model[1].running_var.isfinite().any()
    report = repair_(model, BATCHES)
    assert [each.name for each in report.touched] == ["1", "3"]
    assert report.touched[0].change == "3 of 3 channels not finite: statistics set anew, only 12 values a channel"
    assert_same(values(model), sound)
    assert model[1].training


def test_only_the_channels_that_are_wrong_start_afresh() -> None:
    model = network()
    expected = values(model)
    model[1].running_mean[1] = torch.nan
    model[1].running_var[2] = -0.5
    for name, value in (("mean", 0.0), ("var", 1.0)):
        expected[f"1.running_{name}"][1:] = value
    report = repair_(model)
    change = "1 of 3 channels not finite, 1 of 3 channels with a negative variance: mean 0 and variance 1 again"
    assert report.touched == (Touched("1", "BatchNorm1d(3)", change),)
    assert report.title() == "1 of 3 norm layers repaired, 2 already so"
    assert_same(values(model), expected)


def test_a_layer_that_is_wrong_throughout_counts_from_the_start() -> None:
    norm = nn.BatchNorm1d(2)
    norm(torch.full((3, 2), torch.inf))
    assert int(norm.num_batches_tracked) == 1
    repair_(norm)
    assert_same(values(norm), values(nn.BatchNorm1d(2)))


def test_only_what_is_wrong_is_measured() -> None:
    model = network()
    model[1].running_mean += 1
    model[3].running_var[0] = torch.inf
    before = values(model)
    report = repair_(model, BATCHES)
    assert [each.name for each in report.touched] == ["3"]
    after = values(model)
    assert after["1.running_mean"].equal(before["1.running_mean"])
    entering = torch.cat([model[:3].eval()(batch) for batch in BATCHES])
    torch.testing.assert_close(after["3.running_var"], entering.var(0))


def test_statistics_that_never_moved() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True))
    before = values(model)
    report = repair_(model)
    assert [each.reason for each in report.skipped] == [f"{NEVER}: pass batches to measure them"] * 2
    assert report.title() == "0 of 2 norm layers repaired"
    assert_same(values(model), before)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.broken = (nn.BatchNorm1d(3) for _ in range(3))
        self.broken.running_var -= 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def test_what_no_batch_reaches_starts_afresh_at_most() -> None:
    report = repair_(model := Branch(), BATCHES)
    assert [(each.name, each.change.partition(": ")[2][:15]) for each in report.touched] == [
        ("used", "mean moved by u"),
        ("broken", "mean 0 and vari"),
    ]
    assert [(each.name, each.reason) for each in report.skipped] == [("unused", f"{NEVER}: no batch reaches it")]
    torch.testing.assert_close(model.used.running_mean, torch.cat(BATCHES).mean(0))
    assert model.broken.running_var.equal(torch.ones(3))


def test_every_domain_of_a_layer_is_looked_at() -> None:
    norm = layers.DomainBatchNorm1d(3, ["real", "fake"])
    norm.running_mean += 1
    norm.running_var_fake[2] = -1.0
    assert repair_(copy.deepcopy(norm)).touched[0].change == (
        "1 of 3 channels with a negative variance in domain fake: mean 0 and variance 1 again"
    )
    with layers.domain(norm, "fake"):
        report = repair_(norm, BATCHES)
    assert report.touched[0].change.startswith(
        "1 of 3 channels with a negative variance in domain fake: statistics set"
    )
    torch.testing.assert_close(norm.running_var_fake, torch.cat(BATCHES).var(0))
    assert norm.running_mean.equal(torch.ones(3))


def test_an_instance_norm_that_has_moved_is_sound_although_its_counter_is_0() -> None:
    norm = nn.InstanceNorm1d(3, track_running_stats=True)
    norm(torch.randn(2, 3, 4))
    assert int(norm.num_batches_tracked) == 0
    assert repair_(norm).skipped == (Skipped("", "InstanceNorm1d(3)", SOUND, same=True),)


def test_weights_that_are_not_finite_are_only_reported() -> None:
    model = network()
    with torch.no_grad():
        model[1].bias[0] = torch.nan
        model[4].weight[1] = model[4].bias[1] = torch.inf
    model[1].running_var[0] = torch.nan
    before = values(model)
    report = repair_(model)
    assert report.touched[0].change == (
        "1 of 3 channels not finite: mean 0 and variance 1 again; its bias is not finite: restore an earlier checkpoint"
    )
    assert report.skipped[-1] == Skipped(
        "4", "LayerNorm(3)", "its weight and bias are not finite: restore an earlier checkpoint"
    )
    assert_same({"w": model[4].weight.detach()}, {"w": before["4.weight"]})


def test_a_frozen_layer_is_reported() -> None:
    model = network()
    model[3].running_var[0] = torch.nan
    freeze_(model, "3")
    before = values(model)
    report = repair_(model)
    assert report.skipped[1].reason == "1 of 3 channels not finite, but it is frozen"
    assert not report.skipped[1].same
    assert_same(values(model), before)


def test_it_is_as_before_when_the_batches_cannot_be_used() -> None:
    model = network()
    model[1].running_var[:] = torch.nan
    before = values(model)
    for batches in ([], [torch.full((4, 3), torch.nan)], [torch.randn(3, 4)]):
        broken = copy.deepcopy(model)
        with pytest.raises((InvalidInputError, RuntimeError)):
            repair_(broken, batches)
        assert_same(values(broken), before)


def test_a_model_without_its_weights_is_refused() -> None:
    with pytest.raises(InvalidInputError) as raised:
        repair_(nn.Sequential(nn.LazyBatchNorm1d()))
    assert str(raised.value) == (
        "repair_: `model` must have all its weights.\n  got: 0.weight is lazy\n  fix: pass one batch through it first."
    )


def said(model: object, batches: object) -> str:
    with pytest.raises(InvalidInputError) as raised:
        repair_(model, batches)  # type: ignore[arg-type]
    return str(raised.value)


def test_errors_name_this_tool_and_only_what_it_can_do() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    once = iter(BATCHES)
    assert said(model, iter(BATCHES)) == (
        "repair_: `batches` are gone through once for each of 2 layers.\n"
        "  got: list_iterator, which gives them only once\n"
        "  fix: pass a list, a loader or a function that makes the iterator."
    )
    assert said(model, lambda: once) == (
        "repair_: `batches` must begin anew for each layer.\n"
        "  got: 3 batches in the first pass, 0 in the second, which goes on with the same list_iterator\n"
        "  fix: pass a list, a loader that begins anew."
    )
    assert said(model, []) == (
        "repair_: `batches` must hold at least one batch.\n  got: none\n  fix: pass the training data."
    )
    assert said(model, [torch.full((2, 3), torch.nan)]) == (
        "repair_: what enters a layer must be finite.\n"
        "  got: 0: BatchNorm1d(3), batch 0, counted from 0: NaN or infinity in channels 0, 1, 2\n"
        "  fix: leave that batch out."
    )
    assert said(model, BATCHES[0][:1].split(1)) == (
        "repair_: a variance needs two values a channel.\n"
        "  got: 0: BatchNorm1d(3): 1 in all the batches\n"
        "  fix: pass more data."
    )
    big = [torch.tensor([[-300.0], [300.0]] * 2, dtype=torch.float16)]
    assert said(nn.BatchNorm1d(1).half(), big).startswith("repair_: statistics must fit into float16")
    with pytest.raises(InvalidInputError, match=r"^repair_: `mask`"):
        repair_(Masked(layers.BatchNorm1d(3)), BATCHES)


class Masked(nn.Module):
    """Gives its norm a mask that does not fit."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x, mask=torch.ones(7, dtype=torch.bool))


@pytest.mark.parametrize("model", [None, BATCHES])
def test_what_is_no_model(model: object) -> None:
    assert said(model, nn.BatchNorm1d(3)) == (
        f"repair_: `model` must be a torch.nn.Module.\n  got: {type(model).__name__}\n  fix: pass the model first."
    )
