"""Population statistics against NumPy in float64 over all the data at once, where PyTorch's own tool is wrong too."""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.tolerances import POPULATION, POPULATION_32
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from normlab.errors import InvalidInputError
from normlab.tools.recalibrate import recalibrate_


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaped(count: int, mean: float, var: float, seed: int) -> torch.Tensor:
    """One channel in float32 of just this mean and unbiased variance."""
    x = drawn(count, 1, seed=seed)
    return (mean + (x - x.mean()) / x.std() * var**0.5).float()


def state(model: nn.Module) -> dict[str, Any]:
    """All that a tool must leave, in a form that can be compared."""
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "tensors": [id(each) for each in (*model.buffers(), *model.parameters())],
        "modes": [module.training for module in model.modules()],
        "momentum": [getattr(module, "momentum", None) for module in model.modules()],
        "hooks": [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()],
        "random": torch.get_rng_state(),
    }


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def whole(batches: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of each channel of everything."""
    x = np.concatenate([np.moveaxis(each.double().numpy(), 1, 0).reshape(each.shape[1], -1) for each in batches], 1)
    return x.mean(1), x.var(1, ddof=1)


# ../shared/hazards.md, "Measured facts": what update_bn makes of these, and what is true
ALTERNATING = [shaped(32, mean, 0.897, seed) for seed, mean in enumerate((0.0, 9.996))]
RAGGED = [*(shaped(64, mean, 1.0, seed) for seed, mean in enumerate((0.1, 0.2, 0.2427))), shaped(2, 51.017, 1.0, 3)]


def test_domains_that_take_turns() -> None:
    stock, ours = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    update_bn(ALTERNATING, stock)
    mean, var = whole(ALTERNATING)
    assert (round(float(stock.running_var), 3), round(float(var[0]), 2)) == (0.897, 26.26)
    report = recalibrate_(ours, ALTERNATING)
    np.testing.assert_allclose(ours.running_var, var, rtol=POPULATION_32)
    np.testing.assert_allclose(ours.running_mean, mean, rtol=POPULATION_32)
    assert str(report).splitlines()[0].strip() == "1 of 1 norm layer recalibrated from 2 batches"
    assert report.touched[0].change == "mean moved by 0.98 deviations, variance × 26, only 64 values a channel"


def test_a_last_batch_of_two_samples() -> None:
    stock, ours = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    update_bn(RAGGED, stock)
    mean, var = whole(RAGGED)
    assert (round(float(stock.running_mean), 2), round(float(mean[0]), 3)) == (12.89, 0.705)
    recalibrate_(ours, RAGGED)
    np.testing.assert_allclose(ours.running_mean, mean, rtol=POPULATION_32)
    np.testing.assert_allclose(ours.running_var, var, rtol=POPULATION_32)


@pytest.mark.parametrize("order", ["layers", "one_pass"])
@pytest.mark.parametrize("method", ["pooled", "average", "ema"])
@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize(
    ("kind", "sides"),
    [
        (nn.BatchNorm1d, ()), (nn.BatchNorm1d, (5,)), (nn.BatchNorm2d, (3, 2)), (nn.BatchNorm3d, (2, 1, 3)),
        (nn.SyncBatchNorm, (4,)), (nn.InstanceNorm1d, (5,)), (nn.InstanceNorm2d, (3, 2)),
        (nn.InstanceNorm3d, (2, 2, 2)),
    ],
)  # fmt: skip
def test_each_kind_by_each_method(
    kind: type[nn.Module], sides: tuple[int, ...], shift: float, method: str, order: str
) -> None:
    """In float64. Of an instance norm, a batch has the mean over its samples of their means and variances."""
    norm = kind(3, track_running_stats=True, momentum=0.3, dtype=torch.float64)
    batches = [drawn(count, 3, *sides, seed=count) * count + shift for count in (6, 9, 2)]
    recalibrate_(norm, batches, method, order=order)
    mean, var = whole(batches)
    if method != "pooled":
        of_batches = []
        for batch in batches:
            parts = batch.split(1) if "Instance" in kind.__name__ else [batch]
            found = [whole([part]) for part in parts]
            of_batches.append([np.mean(each, axis=0) for each in zip(*found, strict=True)])
        mean, var = np.mean(of_batches, axis=0)
        if method == "ema":
            one, two, three = np.array(of_batches)
            mean, var = 0.7 * (0.7 * one + 0.3 * two) + 0.3 * three
    np.testing.assert_allclose(norm.running_mean, mean, rtol=POPULATION, atol=POPULATION)
    np.testing.assert_allclose(norm.running_var, var, rtol=POPULATION)
    assert int(norm.num_batches_tracked) == (0 if "Instance" in kind.__name__ else 3)


def test_the_moving_average_is_that_of_pytorch_but_for_its_start() -> None:
    """PyTorch's with momentum 1 for the first batch; None is the cumulative average of it."""
    batches = [drawn(count, 3, seed=count) for count in (6, 9, 2, 4)]
    for own, given in ((0.3, None), (0.9, 0.3), (None, None)):
        stock, ours = nn.BatchNorm1d(3, momentum=1.0).double(), nn.BatchNorm1d(3, momentum=own).double()
        stock(batches[0])
        stock.momentum = given or own
        for batch in batches[1:]:
            stock(batch)
        recalibrate_(ours, batches, "ema", momentum=given)
        torch.testing.assert_close(ours.state_dict(), stock.state_dict(), rtol=POPULATION, atol=POPULATION)
        assert ours.momentum == own


def network(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in (2, 4, 5):
        layers += [nn.Conv2d(width, width + 1, 2), norm(width + 1), nn.ReLU(), nn.Dropout(0.5)]
        layers += [nn.Conv2d(width + 1, width + 2, 1)] if width == 2 else []
    return nn.Sequential(*layers).double()


IMAGES = [drawn(count, 2, 5, 5, seed=count) * (1 + count) + 3 * (count % 2) for count in (3, 6, 1, 4)]


def inputs(model: nn.Sequential, batch: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    for layer in model:
        if layer is norm:
            break
        batch = layer(batch)
    return batch.detach()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, functools.partial(nn.InstanceNorm2d, track_running_stats=True)])
def test_each_layer_sees_the_final_statistics_of_those_before_it(kind: Callable[[int], nn.Module]) -> None:
    """Worked out after the fact: what enters a norm of the finished network in eval mode has just its statistics."""
    model = network(kind)
    recalibrate_(model, IMAGES)
    model.eval()
    norms = [layer for layer in model if hasattr(layer, "running_var")]
    assert len(norms) == 3
    for norm in norms:
        mean, var = whole([inputs(model, batch, norm) for batch in IMAGES])
        np.testing.assert_allclose(norm.running_mean, mean, rtol=POPULATION, atol=POPULATION)
        np.testing.assert_allclose(norm.running_var, var, rtol=POPULATION)


def test_only_layer_by_layer_does_a_second_norm_see_what_it_will() -> None:
    """Two domains in turn. In eval mode the second norm should leave variances of 1: in one pass they are 0.63 to 1.97,
    and after update_bn 6 to 78."""
    torch.manual_seed(0)
    start = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4))
    batches = [drawn(32, 4, seed=turn).float() + 10 * (turn % 2) for turn in range(10)]
    layers, one_pass, stock = (copy.deepcopy(start) for _ in range(3))
    recalibrate_(layers, batches)
    recalibrate_(one_pass, batches, order="one_pass")
    update_bn(batches, stock)
    left = []
    for model in (layers, one_pass, stock):
        alive = start.train()(torch.cat(batches)).var(0) > 0.5
        left.append(torch.cat([model.eval()(batch) for batch in batches]).var(0)[alive].log().abs().max())
    assert left[0] < 1e-3  # eps
    assert left[1] > 0.3
    assert left[2] > 1.5


def test_in_one_pass_each_batch_is_normalized_by_its_own() -> None:
    model = network()
    by_batch = copy.deepcopy(model).eval()
    norms = [(layer, by_batch[place]) for place, layer in enumerate(model) if isinstance(layer, nn.BatchNorm2d)]
    for _, norm in norms:
        norm.train()
    recalibrate_(model, IMAGES, order="one_pass")
    for ours, norm in norms:
        mean, var = whole([inputs(by_batch, batch, norm) for batch in IMAGES])
        np.testing.assert_allclose(ours.running_mean, mean, rtol=POPULATION, atol=POPULATION)
        np.testing.assert_allclose(ours.running_var, var, rtol=POPULATION)


def test_layers_cost_little_more_than_what_lies_before_them() -> None:
    """The first pass sees all; the others end at their norm: 3 batches × (5 + 2 + 4) calls of the linear layers."""
    calls = 0

    class Counted(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            return super().forward(x)

    parts = [(Counted(2, 2), nn.BatchNorm1d(2)) for _ in range(3)]
    model = nn.Sequential(*[layer for pair in parts for layer in pair], Counted(2, 2), Counted(2, 2))
    recalibrate_(model, list(torch.randn(12, 2).split(4)))
    assert calls == 3 * (5 + 2 + 3)


def test_dropout_before_a_norm_is_off() -> None:
    """../shared/hazards.md: with dropout on, the variance is 2.1 instead of 1, and outputs in eval shrink by half."""
    x = torch.randn(4096, 1, generator=torch.Generator().manual_seed(0))
    stock, ours = (nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1)) for _ in range(2))
    update_bn([x], stock)
    recalibrate_(ours, [x])
    assert float(stock[1].running_var) > 1.8 * float(x.var())
    np.testing.assert_allclose(ours[1].running_var, whole([x])[1], rtol=POPULATION_32)


def test_modes_and_everything_else_stay() -> None:
    """update_bn leaves the norm that was in eval mode in train mode."""
    model = network().train()
    model[5].eval()
    model[3].eval()
    model[1].register_forward_pre_hook(lambda module, args: None)
    before = state(model)
    torch.manual_seed(7)
    before["random"] = torch.get_rng_state()
    for order in ("layers", "one_pass"):
        recalibrate_(model, IMAGES, order=order)
        after = state(model)
        moved = {name for name, value in after["values"].items() if not value.equal(before["values"][name])}
        assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}
        assert_same(before | {"values": 0}, after | {"values": 0})
        assert int(model[1].num_batches_tracked) == 4


class Fails(nn.Module):
    """At the n-th call."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left, self.seen = at, []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if not self.left:
            raise RuntimeError("in the middle")
        return x


@pytest.mark.parametrize("order", ["layers", "one_pass"])
@pytest.mark.parametrize("at", [1, 3])
def test_a_model_that_raises_is_as_before(order: str, at: int) -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(2), Fails(at), nn.Dropout(), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3).eval()
    ).double()
    before = state(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        recalibrate_(model, IMAGES, order=order)
    assert_same(before, state(model))
    assert model[1].left == at
    update = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        update_bn(IMAGES, update)
    assert update[0].momentum is None  # what ours must not do


def test_without_a_batch_nothing_is_reset() -> None:
    model = network()
    recalibrate_(model, IMAGES)
    before = state(model)
    for empty in ([], iter(()), list):
        with pytest.raises(InvalidInputError) as raised:
            recalibrate_(model, empty, order="one_pass")
        assert str(raised.value) == (
            "recalibrate_: `batches` must hold at least one batch.\n  got: none\n  fix: pass the training data."
        )
    with pytest.raises(InvalidInputError, match="at least one batch"):
        recalibrate_(model, [])
    assert_same(before, state(model))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(2), nn.Linear(2, 2)
        self.again = self.norm

    def forward(self, x: torch.Tensor, *, y: torch.Tensor | None = None) -> torch.Tensor:
        self.norm(x)
        return self.linear(self.again(x + 5 if y is None else y))


def test_a_layer_that_is_called_twice_gets_the_values_of_both_calls() -> None:
    model, batches = Shared().double(), [drawn(count, 2, seed=count) for count in (4, 1, 3)]
    report = recalibrate_(model, batches)
    mean, var = whole([each for batch in batches for each in (batch, batch + 5)])
    np.testing.assert_allclose(model.norm.running_mean, mean, rtol=POPULATION)
    np.testing.assert_allclose(model.norm.running_var, var, rtol=POPULATION)
    assert [each.name for each in report.touched] == ["norm"]
    assert report.touched[0].change.endswith(", only 16 values a channel, 6 calls: approximate if one feeds another")
    in_turn = recalibrate_(Shared().double(), batches, order="one_pass").touched[0].change
    assert in_turn.endswith(", only 16 values a channel, 6 calls")
    assert int(model.norm.num_batches_tracked) == 6


def test_a_layer_that_is_called_twice_behind_another_one() -> None:
    """Its pass ends at its second call, not at its first."""

    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.BatchNorm1d(2), nn.BatchNorm1d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.first(x) + 1) + self.norm(2 * x)

    model, batches = Behind().double(), [drawn(count, 2, seed=count) for count in (4, 1, 3)]
    recalibrate_(model, batches)
    mean, var = whole([each for batch in batches for each in (model.first.eval()(batch).detach() + 1, 2 * batch)])
    np.testing.assert_allclose(model.norm.running_mean, mean, rtol=POPULATION)
    np.testing.assert_allclose(model.norm.running_var, var, rtol=POPULATION)


@pytest.mark.parametrize(
    ("made_of", "call"),
    [
        (lambda x: x, None),
        (lambda x: (x, torch.zeros(len(x))), None),
        (lambda x: [(x, "name"), 3], None),
        (lambda x: {"x": x, "y": x + 5}, None),
        (lambda x: {"image": [x]}, lambda model, batch: model(batch["image"][0])),
    ],
)
def test_batches_of_any_structure(made_of: Callable[[torch.Tensor], Any], call: Callable[..., Any] | None) -> None:
    model, plain = Shared().double(), Shared().double()
    batches = [drawn(count, 2, seed=count) for count in (4, 1, 3)]
    recalibrate_(model, [made_of(batch) for batch in batches], call=call)
    recalibrate_(plain, batches)
    assert model.norm.running_var.equal(plain.norm.running_var)
    assert not model.norm.running_var.equal(Shared().double().norm.running_var)


class OwnForward(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        training = self.training and self.track_running_stats
        y = nn.functional.batch_norm(input, self.running_mean, self.running_var, training=training, momentum=0.5)
        return nn.functional.relu(y)


def test_a_subclass_with_a_forward_of_its_own() -> None:
    for order in ("layers", "one_pass"):
        model = nn.Sequential(OwnForward(2), nn.Conv2d(2, 2, 1), OwnForward(2)).double()
        recalibrate_(model, IMAGES, order=order)
        mean, var = whole(IMAGES)
        np.testing.assert_allclose(model[0].running_mean, mean, rtol=POPULATION)
        np.testing.assert_allclose(model[0].running_var, var, rtol=POPULATION)


def test_a_root_that_is_a_norm_and_a_model_without_any() -> None:
    norm = nn.BatchNorm2d(2).double()
    assert recalibrate_(norm, IMAGES).touched[0].name == ""
    untouched = iter(IMAGES)
    report = recalibrate_(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), untouched)
    assert report.title() == "0 of 1 norm layer recalibrated"
    assert report.skipped[0].reason == "it keeps no running statistics"
    assert next(untouched) is IMAGES[0]


def test_an_averaged_model() -> None:
    model = network()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    report = recalibrate_(averaged, IMAGES)
    recalibrate_(model, IMAGES)
    assert [each.name for each in report.touched] == ["module.1", "module.6", "module.10"]
    assert averaged.module[10].running_var.equal(model[10].running_var)
    assert int(averaged.n_averaged) == 1


def test_buffers_keep_their_dtype() -> None:
    norm = nn.BatchNorm2d(2).to(torch.bfloat16)
    recalibrate_(norm, [batch.bfloat16() for batch in IMAGES])
    assert norm.running_var.dtype == torch.bfloat16
    mean, var = whole([batch.bfloat16() for batch in IMAGES])
    assert norm.running_var.equal(torch.from_numpy(var).bfloat16())
    assert norm.running_mean.equal(torch.from_numpy(mean).bfloat16())


def test_the_loader_shuffles_alike_in_each_pass() -> None:
    """So that `max_batches` takes the same ones for every layer."""
    seen: list[float] = []

    def call(model: nn.Module, batch: list[torch.Tensor]) -> None:
        seen.append(float(batch[0][0, 0]))
        model(batch[0])

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(40, 2)), 8, shuffle=True)
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    report = recalibrate_(model, loader, call=call, max_batches=3)
    assert len(seen) == 6
    assert seen[:3] == seen[3:]
    assert report.title() == "2 of 2 norm layers recalibrated from 3 batches"
    assert report.touched[0].change.endswith(", only 24 values a channel")
    assert torch.get_rng_state().equal(before)


def test_a_function_can_make_the_batches() -> None:
    def generated() -> Iterator[torch.Tensor]:
        yield from IMAGES

    one, other = network(), network()
    recalibrate_(one, generated)
    recalibrate_(other, IMAGES)
    assert one[10].running_var.equal(other[10].running_var)
    single = nn.Sequential(nn.BatchNorm2d(2)).double()
    recalibrate_(single, generated())  # one layer takes one pass


def test_the_report_says_how_far_each_layer_moved() -> None:
    """Before: mean 0 and 4, variance 2 and 2; the data: mean 3 and 3, variance 4 and 1."""
    norm = nn.BatchNorm1d(2, eps=0.0).double()
    norm.running_mean += torch.tensor([0.0, 4.0])
    norm.running_var += 1
    data = torch.tensor([[1.0, 2.0], [3.0, 3.0], [5.0, 4.0]], dtype=torch.float64)
    change = recalibrate_(norm, [data]).touched[0].change
    assert change == "mean moved by up to 1.5 deviations, variance × 0.5 to 2, only 3 values a channel"
    change = recalibrate_(norm, [data]).touched[0].change
    assert change == "mean moved by up to 0 deviations, variance × 1, only 3 values a channel"
    norm.running_var[0] = 0.0
    assert recalibrate_(norm, [data]).touched[0].change == "statistics set anew, only 3 values a channel"


def test_the_bar_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    recalibrate_(network(), IMAGES, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "recalibrating: layer 3 of 3" in err
