import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from normlab.lab.config import Init, Model, RunConfig
from normlab.lab.data import Dataset, curve, digits
from normlab.lab.distributions import distributions
from normlab.lab.histogram import histograms
from normlab.lab.judge import judge_of
from normlab.lab.measure import Measurement, Probe, measure
from normlab.lab.models import build_model
from normlab.lab.preserve import preserved
from normlab.lab.sites import Layout, Site

SIZE = 16
TEST_BATCH = [SIZE + i * 359 // (SIZE - 1) for i in range(SIZE)]  # evenly spaced over the 360 test samples
# float32 sums of up to 4,096 values of unit size in another order: 16 roundings of 2⁻²³, as in tests/tolerances.py
ROUNDING = 16 * 2.0**-23


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(0)


def trained(config: RunConfig, data: Dataset) -> nn.Module:
    """A model a few steps from its start, so that running statistics and gradients are not the initial ones."""
    model = build_model(config, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    for start in range(0, 320, 64):
        optimizer.zero_grad()
        functional.cross_entropy(model(x[start : start + 64]), y[start : start + 64]).backward()
        optimizer.step()
    return model


def config(**settings: Any) -> RunConfig:
    return RunConfig(
        **{"model": Model(depth=2, width=8, input_norm=True), "init": Init(weight_std=0.3), "norm": "batch"} | settings
    )


def probe_of(model: nn.Module, data: Dataset, size: int = SIZE, **settings: Any) -> Probe:
    said = RunConfig(data=data.name, probe=size, **settings)
    return Probe.of(model, data, judge_of(said, data), said)


@pytest.fixture
def model(data: Dataset) -> nn.Module:
    return trained(config(), data)


@pytest.fixture
def probe(model: nn.Module, data: Dataset) -> Probe:
    return probe_of(model, data)


def bits(model: nn.Module) -> list[Any]:
    """Everything that a measurement could move."""
    tensors = [*model.parameters(), *model.buffers()]
    hooks = [len(hooked) for module in model.modules() for hooked in (module._forward_hooks, module._forward_pre_hooks)]
    return [
        [tensor.detach().numpy().tobytes() for tensor in tensors],
        [id(tensor) for tensor in tensors],
        [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        [module.training for module in model.modules()],
        hooks,
        torch.get_rng_state().numpy().tobytes(),
        torch.is_grad_enabled(),
    ]


def mixed(model: nn.Module) -> None:
    model.train()
    model.get_submodule("layer1").eval()


@pytest.mark.parametrize("mode", [nn.Module.train, nn.Module.eval, mixed])
def test_a_measurement_leaves_no_trace(mode: Callable[[nn.Module], Any], model: nn.Module, probe: Probe) -> None:
    mode(model)
    before = bits(model)
    measure(model, probe)
    assert bits(model) == before


def test_a_measurement_that_fails_leaves_no_trace(model: nn.Module, probe: Probe) -> None:
    mixed(model)
    calls = []

    def fail(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        torch.rand(1)
        calls.append(module.training)
        if len(calls) == 2:  # the pass in train mode, after the running statistics of the layers before have moved
            raise RuntimeError("no")

    handle = model.get_submodule("output").register_forward_pre_hook(fail)
    before = bits(model)
    with pytest.raises(RuntimeError, match="no"):
        measure(model, probe)
    assert calls == [False, True]
    assert bits(model) == before
    handle.remove()


def test_the_check_of_traces_sees_each_of_them(model: nn.Module) -> None:
    before = bits(model)
    for touch in (
        lambda: model(torch.zeros(4, 1, 8, 8)),
        lambda: torch.rand(1),
        lambda: model.get_submodule("layer2").eval(),
        lambda: model.get_submodule("layer2.weights").zero_grad(),
        lambda: model.register_forward_hook(lambda *_: None),
    ):
        touch()
        after = bits(model)
        assert after != before
        before = after


def test_what_changes_buffers_inside_is_undone_even_after_an_error(model: nn.Module) -> None:
    def meddle() -> None:
        with preserved(model):
            model.eval()
            for buffer in model.buffers():
                buffer.fill_(7)
            torch.rand(1)
            raise RuntimeError("no")

    before = bits(model)
    with pytest.raises(RuntimeError, match="no"):
        meddle()
    assert bits(model) == before


def test_the_probe_is_training_samples_then_the_whole_test_set(probe: Probe, data: Dataset) -> None:
    train = {row.tobytes() for row in data.x_train}
    assert probe.size == SIZE
    assert all(row.numpy().tobytes() in train for row in probe.x[:SIZE])
    assert len(torch.unique(probe.x[:SIZE], dim=0)) == SIZE
    assert np.array_equal(probe.x[SIZE:].numpy(), data.x_test)
    assert np.array_equal(probe.y[SIZE:].numpy(), data.y_test)


def test_a_probe_larger_than_the_training_set_is_all_of_it(model: nn.Module, data: Dataset) -> None:
    probe = probe_of(model, data, 10_000)
    assert (probe.size, len(probe.x)) == (1437, 1797)
    assert measure(model, probe).record["loss"]["test"]["train"] is not None


def test_eval_numbers_are_those_of_a_copy_in_eval_mode(model: nn.Module, probe: Probe) -> None:
    """A forward pass in train mode before it would move the running statistics that these numbers rest on."""
    record = measure(model, probe).record
    plain = copy.deepcopy(model).eval()
    with torch.no_grad():
        output = plain(probe.x)
    for part, rows in (("train", slice(0, SIZE)), ("test", slice(SIZE, None))):
        assert record["loss"][part]["eval"] == float(functional.cross_entropy(output[rows], probe.y[rows]))
        right = output[rows].argmax(dim=1) == probe.y[rows]
        assert record["metric"][part]["eval"] == right.sum().item() / len(right)


def test_train_numbers_are_those_of_a_copy_in_train_mode(model: nn.Module, probe: Probe) -> None:
    record = measure(model, probe).record
    plain = copy.deepcopy(model).train()
    for part, rows in (("train", list(range(SIZE))), ("test", TEST_BATCH)):
        output = plain(probe.x[rows])
        assert record["loss"][part]["train"] == float(functional.cross_entropy(output, probe.y[rows]).detach())
        right = output.argmax(dim=1) == probe.y[rows]
        assert record["metric"][part]["train"] == right.sum().item() / SIZE


def test_gradient_norms_are_those_of_backward(model: nn.Module, probe: Probe) -> None:
    plain = copy.deepcopy(model).train()
    plain.zero_grad()
    functional.cross_entropy(plain(probe.x[:SIZE]), probe.y[:SIZE]).backward()
    layers = {
        "1": plain.get_submodule("layer1.weights"),
        "2": plain.get_submodule("layer2.weights"),
        "output": plain.get_submodule("output"),
    }
    expected = {name: float(layer.weight.grad.norm()) for name, layer in layers.items()}
    assert measure(model, probe).record["gradient_norm"] == expected
    assert all(norm > 0 for norm in expected.values())


def test_the_gap_is_that_of_the_formula(model: nn.Module, probe: Probe) -> None:
    gap = measure(model, probe).record["statistics_gap"]
    assert list(gap) == ["input", "1", "2"]
    norm = model.get_submodule("input.norm")
    x = probe.x[:SIZE].flatten(1).double().numpy()
    mean, var = norm.running_mean.double().numpy(), norm.running_var.double().numpy()
    shift = (x.mean(0) - mean) / np.sqrt(var + 1e-5)
    ratio = np.log((x.var(0, ddof=1) + 1e-5) / (var + 1e-5))
    for name, value in (("mean", shift), ("var", ratio)):
        expected = math.sqrt((value**2).mean())
        assert abs(gap["input"][name] - expected) < ROUNDING * expected


def test_there_is_no_gap_where_the_running_statistics_are_those_of_the_probe(data: Dataset) -> None:
    model = build_model(config(norm_momentum=1.0), data)
    probe = probe_of(model, data)
    model(probe.x[:SIZE])
    for each in measure(model, probe).record["statistics_gap"].values():
        assert each["mean"] < ROUNDING
        assert each["var"] < ROUNDING


def test_without_batch_norm_there_is_no_gap(data: Dataset) -> None:
    model = build_model(config(norm="layer"), data)
    probe = probe_of(model, data)
    assert measure(model, probe).record["statistics_gap"] == {}


def places(measured: Measurement) -> list[tuple[str, str, str]]:
    return [(each["layer"], each["site"], each["mode"]) for each in measured.record["sites"]]


def test_every_layer_is_seen_before_its_norm_before_and_after_its_activation(model: nn.Module, probe: Probe) -> None:
    measured = measure(model, probe)
    order = [("input", "pre_norm"), ("input", "pre_activation")]
    order += [(layer, site) for layer in ("1", "2") for site in ("pre_norm", "pre_activation", "activation")]
    expected = [(*place, mode) for mode in ("train", "eval") for place in order]
    assert places(measured) == expected
    assert [(site.layer, site.kind, mode) for site, mode in measured.histograms] == expected


def test_without_a_norm_nothing_is_before_it(data: Dataset) -> None:
    model = build_model(config(norm="none"), data)
    probe = probe_of(model, data)
    expected = [("input", "pre_activation", "both")]
    expected += [(layer, site, "both") for layer in ("1", "2") for site in ("pre_activation", "activation")]
    assert places(measure(model, probe)) == expected


NORMS = [("mlp", norm) for norm in ("none", "layer", "group", "rms")]
NORMS += [("conv", norm) for norm in ("none", "layer", "group", "rms")]


@pytest.mark.parametrize(("kind", "norm"), NORMS)
def test_what_stands_for_both_modes_is_true_of_each(kind: str, norm: str, data: Dataset) -> None:
    model = build_model(config(norm=norm, norm_groups=4, model=Model(kind=kind, depth=2, width=8)), data)
    probe = probe_of(model, data)
    assert not probe.layout.modes_differ
    x = probe.x[:SIZE]
    assert torch.equal(copy.deepcopy(model).train()(x), copy.deepcopy(model).eval()(x))
    record = measure(model, probe).record
    assert {place["mode"] for place in record["sites"]} == {"both"}
    with torch.no_grad():
        output = model(probe.x[TEST_BATCH])
    expected = float(functional.cross_entropy(output, probe.y[TEST_BATCH]))
    assert abs(record["loss"]["test"]["train"] - expected) < ROUNDING * expected


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.Dropout(0.5), nn.InstanceNorm2d(8)], ids=str)
def test_a_layer_that_may_look_at_its_mode_is_measured_in_both(layer: nn.Module, data: Dataset) -> None:
    model = nn.Sequential(build_model(config(norm="none"), data), layer)
    assert Layout.of(model).modes_differ


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_distributions_are_those_of_the_values_that_flow(mode: str, model: nn.Module, probe: Probe) -> None:
    measured = measure(model, probe)
    plain = copy.deepcopy(model).train(mode == "train")
    seen: dict[str, torch.Tensor] = {}
    block = plain.get_submodule("layer2")
    block.norm.register_forward_hook(lambda _, x, y: seen.update(pre_norm=x[0], pre_activation=y))
    block.register_forward_hook(lambda _, x, y: seen.update(activation=y))
    with torch.no_grad():
        plain(probe.x[:SIZE] if mode == "train" else probe.x)
    records = dict(zip(places(measured), measured.record["sites"], strict=True))
    for kind, tensor in seen.items():
        x = tensor[:SIZE].double().numpy()
        record = records["2", kind, mode]
        assert abs(record["mean"] - x.mean()) < ROUNDING * np.abs(x).max()
        assert abs(record["std"] - x.std()) < ROUNDING * np.abs(x).max()
        assert record["near_zero"] == (np.abs(x) < np.float32(0.01)).mean()
        flat = (np.abs(x) >= np.float32(0.99)).mean()
        assert record["saturated"] == (flat if kind == "activation" else None)
        assert record["nonfinite"] == 0
        found, expected = measured.histograms[Site("2", kind), mode], histograms(tensor[:SIZE].flatten()[None])[0]  # type: ignore[arg-type]
        assert np.array_equal(found.counts, expected.counts)
        assert found.total() == SIZE * 8


ENDS = {
    "tanh": ((-0.99, 0.99), [-1.0, -0.99, -0.98, 0.0, 0.98, 0.995], 3 / 6),
    "relu": ((0.0, math.inf), [0.0, 0.0, 1e-9, 5.0], 2 / 4),
    "sigmoid": ((0.01, 0.99), [0.0, 0.01, 0.5, 0.999], 3 / 4),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_value_is_saturated_at_the_flat_ends(name: str) -> None:
    ends, numbers, share = ENDS[name]
    place = (Site("1", "activation"), "train")
    (record,), _ = distributions({place: torch.tensor(numbers)}, ends)
    assert record["saturated"] == share


def test_moments_are_of_the_finite_values_and_the_others_are_counted() -> None:
    place = (Site("1", "pre_activation"), "train")
    (record,), counted = distributions({place: torch.tensor([1.0, math.nan, 3.0, math.inf, -math.inf])}, None)
    assert (record["mean"], record["std"], record["nonfinite"]) == (2.0, 1.0, 3)
    assert counted[place].nonfinite == 3


def test_moments_of_huge_values_do_not_overflow() -> None:
    place = (Site("1", "pre_activation"), "train")
    (record,), _ = distributions({place: torch.tensor([2.0**100, 2.0**102])}, None)
    assert (record["mean"], record["std"]) == (2.5 * 2.0**100, 1.5 * 2.0**100)


def test_nothing_finite_has_no_moments() -> None:
    place = (Site("1", "pre_activation"), "train")
    (record,), _ = distributions({place: torch.full((4,), math.nan)}, None)
    assert (record["mean"], record["std"], record["nonfinite"]) == (None, None, 4)


def test_a_model_that_is_not_finite_is_measured_as_such(data: Dataset) -> None:
    model = build_model(config(), data)
    probe = probe_of(model, data)
    with torch.no_grad():
        model.get_submodule("layer2.weights").weight.fill_(math.nan)
    record = measure(model, probe).record
    assert record["loss"]["test"] == {"train": None, "eval": None}
    assert record["metric"]["test"] == {"train": None, "eval": None}
    assert record["gradient_norm"]["output"] is None
    assert record["statistics_gap"]["2"] == {"mean": None, "var": None}
    last = record["sites"][-1]
    assert (last["layer"], last["nonfinite"], last["mean"]) == ("2", SIZE * 8, None)


def test_a_regression_is_judged_by_its_squared_error_and_keeps_the_fit() -> None:
    data = curve(0)
    model = build_model(RunConfig(data="curve", model=Model(depth=1, width=8)), data)
    probe = probe_of(model, data)
    record = measure(model, probe).record
    with torch.no_grad():
        output = model(probe.x)[SIZE:]
    assert record["prediction"] == output.flatten().tolist()
    squared = ((output.double().numpy() - data.y_test) ** 2).mean()
    assert abs(record["loss"]["test"]["eval"] - squared) < ROUNDING * squared
    assert record["metric"] == record["loss"]
