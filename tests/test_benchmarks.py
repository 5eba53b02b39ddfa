"""The benchmarks: their shapes, their runner, what they refuse, and the page that is made from their results."""

import doctest
import importlib
import json
import math
import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import bench_norms, bench_steps, gate, machine, memory, networks, runs, shapes
from benchmarks.bounds import move_only_
from benchmarks.cases import Case, plan
from benchmarks.interleaved import interleaved
from benchmarks.performance import chart, page
from benchmarks.performance.__main__ import runs as newest_runs
from benchmarks.performance.page import METHOD
from benchmarks.performance.rows import Measured, geometric_mean, grouped
from benchmarks.performance.tables import figures
from benchmarks.performance.targets import of_norms, of_steps
from benchmarks.variants import Inputs, variants
from torch import Tensor, nn

import normlab
from normlab.lab import RECIPES
from normlab.lab.config import with_settings
from normlab.lab.data import load_data
from normlab.lab.models import build_model

ROOT = Path(__file__).parent.parent
DOCUMENTED = (
    "cases", "interleaved", "runs", "shapes", "performance.rows", "performance.said", "performance.targets",
)  # fmt: skip
SMALL: tuple[dict[str, Any], ...] = (
    {"norm": "batch", "shape": (4, 16, 5, 5), "after": "relu", "peers": True},
    {"norm": "batch", "shape": (4, 16, 5, 5), "after": "add, relu"},
    {"norm": "batch", "shape": (4, 16, 5, 5), "layout": "channels last"},
    {"norm": "batch", "shape": (4, 16, 5, 5, 3), "after": "relu", "layout": "channels last"},
    {"norm": "batch", "shape": (8, 16)},
    {"norm": "layer", "shape": (3, 7, 16)},
    {"norm": "rms", "shape": (3, 7, 16)},
    {"norm": "group", "shape": (3, 8, 5), "groups": 4},
    {"norm": "instance", "shape": (3, 8, 5, 5)},
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go instead."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    return tmp_path


def normalized(model: nn.Module, x: Tensor) -> tuple[tuple[int, ...], ...]:
    """The distinct inputs of the batch norms of a model."""
    seen = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    model(x)
    return tuple(dict.fromkeys(seen))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_hold(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert failed == 0
    assert tried or name == "cases"


def test_shapes_of_resnet_50_are_those_of_transformers() -> None:
    models = pytest.importorskip("transformers")
    with torch.device("meta"):
        of_others = models.ResNetModel(models.ResNetConfig())
        assert normalized(of_others, torch.empty(32, 3, 224, 224)) == shapes.resnet50()
        assert normalized(networks.resnet50(), torch.empty(32, 3, 224, 224)) == shapes.resnet50()
    assert shapes.resnet50()[-2:] == ((32, 512, 7, 7), (32, 2048, 7, 7))
    assert set(shapes.resnet50_sums()) <= set(shapes.resnet50())


def test_shapes_of_densenet_121_are_those_of_monai() -> None:
    nets = pytest.importorskip("monai.networks.nets")
    with torch.device("meta"):
        of_others = nets.DenseNet121(spatial_dims=2, in_channels=3, out_channels=1000)
        assert normalized(of_others, torch.empty(32, 3, 224, 224)) == shapes.densenet121()
        assert normalized(networks.densenet121(), torch.empty(32, 3, 224, 224)) == shapes.densenet121()
    # by hand: table 1 of the paper, and 64 + 32 · 6 before the first transition
    assert shapes.densenet121()[0] == (32, 64, 112, 112)
    assert (32, 256, 56, 56) in shapes.densenet121()
    assert (32, 288, 56, 56) not in shapes.densenet121()


def test_networks_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(parameter.numel() for parameter in build().parameters())
            for name, build in networks.NETWORKS.items()
        }
    assert sizes == {"ResNet-50": 25_557_032, "DenseNet-121": 7_978_856}  # as torchvision documents its own


def test_shapes_of_transformers_by_hand() -> None:
    assert shapes.VIT_B == ((32, 197, 768),)


def test_shapes_of_the_lab_are_those_of_its_recipes() -> None:
    seen: set[tuple[int, ...]] = set()
    for name in ("deep-tanh", "population", "batch-size", "lenet", "resnet", "densenet", "volumes"):
        config = with_settings(RECIPES[name].base, {"norm": "batch"})
        data = load_data(config.data, config.data_seed, config.train_samples)
        x = torch.empty(config.batch, *data.x_train.shape[1:], device="meta")
        seen.update(normalized(build_model(config, data).eval().to("meta"), x))
    assert set(shapes.LAB_IMAGES) <= seen
    other_batches = {(2, 100), (200, 100), (8, 16), (64, 32)}
    assert set(shapes.LAB_UNITS) - other_batches <= seen


def test_the_plan_is_measured_in_little_memory_and_the_quick_one_in_little_time() -> None:
    full, quick = plan(quick=False), plan(quick=True)
    assert len(set(full)) == len(full)
    assert set(quick) < set(full)
    assert max(case.size for case in full) <= 200e6
    assert max(case.size for case in quick) <= 20e6
    assert {case.title() for case in full if case.dtype == "float32" and case.of != "the lab"} >= {
        "batch norm + ReLU, ResNet-50, float32",
        "batch norm + ReLU, ResNet-50, channels last, float32",
        "batch norm + ReLU, DenseNet-121, float32",
        "layer norm, ViT-B/16, float32",
        "RMS norm, Llama-like, float32",
    }


def test_variants_take_turns_and_the_median_is_of_what_was_counted() -> None:
    now, called = 0.0, []

    def call(name: str, seconds: Iterator[float]) -> Callable[[], None]:
        def run() -> None:
            nonlocal now
            called.append(name)
            now += next(seconds)

        return run

    calls = {
        "a": call("a", iter([100.0, 100.0, 1.0, 2.0, 9.0, 2.0, 3.0])),
        "b": call("b", iter([100.0, 100.0, 4.0, 4.0, 4.0, 4.0, 4.0])),
    }
    timings, rounds = interleaved(calls, 25.0, least=2, warm_up=2, clock=lambda: now)
    assert rounds == 4  # after 5, 11, 24 and 30 seconds: no fifth begins
    assert called[:4] == ["a", "b", "a", "b"]
    pairs = [tuple(called[at : at + 2]) for at in range(4, len(called), 2)]
    assert len(pairs) == 4
    assert set(pairs) == {("a", "b"), ("b", "a")}
    assert (timings["a"].low, timings["a"].median, timings["a"].high) == (1.0, 2.0, 9.0)
    assert timings["b"].median == 4.0


def test_the_least_rounds_are_made_whatever_they_take() -> None:
    ticks = iter(range(100))
    _, rounds = interleaved({"a": lambda: None}, 0.0, least=3, warm_up=0, clock=lambda: float(next(ticks)))
    assert rounds == 3


@pytest.mark.parametrize("given", SMALL, ids=lambda given: "-".join(str(value) for value in given.values()))
def test_variants_compute_the_same(given: dict[str, Any]) -> None:
    case = Case("ResNet-50", **given)
    found = variants(case, peers=True, compiled=False)
    peers = {
        "ours",
        "eager",
        *(["in place"] if case.after else []),
        *(["oneDNN", "oneDNN blocked"] if case.peers else []),
    }
    called = case.norm == "batch" and case.after == "relu"
    assert set(found) == {*peers, *(["call"] if called else []), "copy", "clone"}
    expected: Any = found["eager"]["both"]()
    assert len(expected) == (4 if case.after.startswith("add") else 2 if case.norm == "rms" else 3)
    for name in peers - {"eager"}:
        gradients: Any = found[name]["both"]()
        for ours, theirs in zip(gradients, expected, strict=True):
            dense = ours.to_dense() if ours.layout == torch._mkldnn else ours
            torch.testing.assert_close(dense, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["clone"]["forward"](), found["copy"]["forward"]())


def test_a_case_gets_its_layout_and_its_dtype() -> None:
    case = Case("a test", "batch", (4, 16, 5, 5), after="relu", dtype="bfloat16", layout="channels last")
    inputs = Inputs.of(case)
    assert inputs.x.dtype == inputs.dy.dtype == torch.bfloat16
    assert inputs.x.is_contiguous(memory_format=torch.channels_last)
    assert inputs.dy.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(inputs.x, inputs.dy)


def test_what_only_moves_its_bytes() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
    x, dy = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    normlab.accelerate_(model, x)
    move_only_(model)
    y = model(x.requires_grad_())
    assert torch.equal(y, x)
    assert y.data_ptr() != x.data_ptr()
    assert torch.equal(torch.autograd.grad(y, x, dy)[0], dy + x)


def test_memory_is_what_was_given_out() -> None:
    def call() -> Tensor:
        between = torch.empty(2_000)
        return torch.empty_like(between[:1_000].clone())

    assert memory.allocated(call) == memory.Memory(kept=4_000, peak=16_000)


@pytest.mark.parametrize("main", [bench_norms.main, bench_steps.main], ids=["norms", "steps"])
def test_red_tests_stop_it(main: Callable[[list[str]], None], results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    red = subprocess.CompletedProcess[str]((), 1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: red)
    with pytest.raises(SystemExit) as stopped:
        main(["--quick"])
    assert str(stopped.value) == (
        "nothing measured: the tests are red (pytest ended with 1).\n"
        "  got: tests/kernels tests/ops tests/layers\n"
        "  fix: make them pass, or say --without-tests and have the results say so."
    )
    assert not list(results.iterdir())


def test_the_results_say_whether_the_tests_were_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def green(command: tuple[str, ...], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", green)
    assert gate.after_tests(skip=True) == "not run"
    assert not asked
    assert gate.after_tests(skip=False) == "passed"
    assert asked[0][-3:] == gate.FOLDERS
    assert all((ROOT / folder).is_dir() for folder in gate.FOLDERS)


def test_what_is_measured_is_read_again(results: Path) -> None:
    case = Case("a test", "batch", (8, 16), after="relu")
    bench_norms.measure([case], 0.0, "none", "not run", quick=True, keep=False)
    assert not list(results.iterdir())
    bench_norms.measure([case], 0.0, "none", "not run", quick=True)
    run = newest_runs(results)["norms"]
    (row,) = map(Measured.from_json, run.rows)
    assert row.case == case
    assert set(row.seconds) == {"ours", "eager", "call", "copy", "clone"}
    assert row.ratio("both") == pytest.approx(row.seconds["eager"]["both"].median / row.seconds["ours"]["both"].median)
    assert row.peaks["eager"] >= 3 * 512  # y, what ReLU made of it, dx
    assert (run.where["tests"], run.where["quick"], run.where["threads"]) == ("not run", True, torch.get_num_threads())


def test_a_step_is_measured_with_its_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tiny() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 62 * 62, 10))

    monkeypatch.setitem(networks.NETWORKS, "tiny", tiny)
    row = bench_steps.figures("tiny", 0.0, least=1)
    known = set(row["seconds"])
    assert "stock" in known <= set(bench_steps.VARIANTS)
    assert known == set(row["bytes"]) == set(row["losses"])
    assert capsys.readouterr().out.count("left out") == len(set(bench_steps.VARIANTS) - known)
    tensor = 4 * 32 * 4 * 62 * 62
    assert row["bytes"]["stock"]["kept"] == pytest.approx(
        2 * tensor, rel=0.01
    )  # what the norm was given, what ReLU made


def test_gradients_of_weights_are_no_activation_memory() -> None:
    def heavy() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 100), nn.Linear(100, 3 * 64 * 64))

    step = bench_steps.made(heavy)["stock"]
    step()
    needed, weight = bench_steps._memory(step), 4 * 100 * 3 * 64 * 64
    # one gradient at a time, until it is added to what is there; two that stay would be more
    assert needed["peak"] < needed["kept"] + 1.5 * weight


def test_an_interrupted_or_quick_run_is_not_the_newest(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, *, quick: bool, ended: bool) -> None:
        monkeypatch.setattr(machine, "now", lambda: name)
        writer = runs.Writer("norms", "passed", quick=quick)
        writer.row({"name": name, "seconds": 0.123456})
        if ended:
            writer.end()

    def newest() -> tuple[str, Any]:
        run = runs.newest(results / "norms.jsonl")
        assert run is not None
        return run.name, run.rows

    assert runs.newest(results / "norms.jsonl") is None
    write("1", quick=True, ended=True)
    write("2", quick=True, ended=False)
    assert newest() == ("1", ({"name": "1", "seconds": 0.1235},))
    write("3", quick=False, ended=True)
    write("4", quick=True, ended=True)
    assert newest() == ("3", ({"name": "3", "seconds": 0.1235},))


def test_geometric_mean() -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(0)).add(0.1).tolist()
    assert geometric_mean(values) == pytest.approx(statistics.geometric_mean(values), rel=1e-12)


def line(**content: Any) -> str:
    return json.dumps({"run": "2026-11-21T20:00:00+00:00", **content}) + "\n"


WHERE = {
    "machine": "a CPU", "cores": 2, "caches": {"L1": "32K", "L3": "8M"}, "threads": 2, "load_average": 0.0,
    "system": "Linux", "allocator": "default", "python": "3.11.7", "torch": "2.13.0", "numba": None, "normlab": "0.1.0",
    "commit": "abc1234", "tests": "passed", "quick": False,
}  # fmt: skip


def norm_row(shape: list[int], ours: list[float], eager: list[float], copied: float, peers: dict[str, float]) -> str:
    """Seconds forward, and forward and backward."""

    def both(values: list[float]) -> dict[str, list[float]]:
        return {way: [value, value, 2 * value] for way, value in zip(("forward", "both"), values, strict=True)}

    seconds = {"ours": both(ours), "eager": both(eager), **{name: {"both": [s, s, s]} for name, s in peers.items()}}
    seconds |= {"copy": {"forward": [copied] * 3}, "clone": {"forward": [2 * copied] * 3}}
    needed = {"ours": {"kept": 1, "peak": 2_000_000}, "eager": {"kept": 1, "peak": 3_000_000}}
    case = {"of": "ResNet-50", "norm": "batch", "shape": shape, "after": "relu", "dtype": "float32",
            "layout": "contiguous", "groups": 0, "peers": True}  # fmt: skip
    kernel = "ours" if shape[1] > 5 else "PyTorch's"
    return line(row={"case": case, "kernel": kernel, "rounds": 5, "seconds": seconds, "bytes": needed})


@pytest.fixture
def literal(results: Path) -> Path:
    """A tiny run of everything, in round numbers. The first tensor has 8 MB, the second 4 KB."""
    norms = line(where=WHERE)
    norms += norm_row([2, 1000, 10, 100], [0.002, 0.005], [0.008, 0.020], 0.001, {"compile": 0.1, "call": 0.0025})
    norms += norm_row([2, 5, 10, 10], [0.00001, 0.00004], [0.00001, 0.00004], 0.000001, {})
    norms += line(ended="later", seconds=12.3, others=0.01)
    seconds = {"stock": [1.0, 1.2, 1.3], "accelerated": [0.9, 1.0, 1.1], "lean": [1.0, 1.1, 1.2]}
    needed = {"stock": {"kept": 90e6, "peak": 100e6}, "accelerated": {"kept": 80e6, "peak": 90e6},
              "lean": {"kept": 50e6, "peak": 60e6}}  # fmt: skip
    step = {"network": "DenseNet-121", "batch": 32, "side": 64, "rounds": 5, "losses": {}, "seconds": seconds,
            "bytes": needed}  # fmt: skip
    (results / "norms.jsonl").write_text(norms)
    (results / "steps.jsonl").write_text(
        line(where=WHERE | {"quick": True, "tests": "not run"}) + line(row=step) + line(ended="", seconds=5, others=0.5)
    )
    return results


PAGE = """\
- **layers**: 2026-11-21T20:00:00+00:00, a full run of 12 s.
  a CPU (L1 32K, L3 8M), 2 cores, of which others had 1 %, 2 threads, the default allocator.
  Python 3.11.7, torch 2.13.0, numba none, normlab 0.1.0 (abc1234).
- **training steps**: 2026-11-21T20:00:00+00:00, a quick run of 5 s.
  a CPU (L1 32K, L3 8M), 2 cores, of which others had 50 %, 2 threads, the default allocator.
  Python 3.11.7, torch 2.13.0, numba none, normlab 0.1.0 (abc1234).

> The tests were not run before: training steps.
>
> Others worked on the machine meanwhile, so that these figures are partly theirs: training steps.
>
> A quick run, of few shapes and few rounds: training steps.

## Figures and targets

"""
TABLES = """\

![Ratios of every group](performance.svg)

## Layers

Geometric means of the time of eager ÷ ours; the other peers forward + backward.

| group | shapes | forward | slowest shape | forward + backward | slowest shape | compile | memory limit |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| batch norm + ReLU, ResNet-50, float32 | 2 | 2.00 | 1.00 | 2.00 | 1.00 | 20.0 | 8.00 |

<details><summary>batch norm + ReLU, ResNet-50, float32</summary>

| shape | size | kernel | forward, ms | eager ÷ ours | ours ÷ clone | forward + backward, ms | eager ÷ ours | compile ÷ ours | streams | of eager | GB/s | memory limit | peak memory | of eager |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| 2 × 1000 × 10 × 100 | 8.0 MB | ours | 2.00 (2.00–4.00) | 4.00 | 1.00 | 5.00 (5.00–10.0) | 4.00 | 20.0 | 10.0 | 40.0 | 8.00 | 8.00 | 2.0 MB | 3.0 MB |
| 2 × 5 × 10 × 10 | 4.0 kB | PyTorch's | 0.0100 (0.0100–0.0200) | 1.00 | 5.00 | 0.0400 (0.0400–0.0800) | 1.00 |  |  |  | 0.50 |  | 2.0 MB | 3.0 MB |
| geometric mean |  |  |  | 2.00 | 2.24 |  | 2.00 | 20.0 |  |  |  | 8.00 |  |  |

</details>

## A training step

32 images of 64 × 64: forward, loss, backward, SGD with momentum.

| network | variant | step, ms | stock ÷ it | kept for backward | of stock | peak of the step | of stock |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| DenseNet-121 | stock | 1200 (1000–1300) | 1.00 | 90 MB | 100 % | 100 MB | 100 % |
| DenseNet-121 | accelerated | 1000 (900–1100) | 1.20 | 80 MB | 89 % | 90 MB | 90 % |
| DenseNet-121 | lean | 1100 (1000–1200) | 1.09 | 50 MB | 56 % | 60 MB | 60 % |

"""  # noqa: E501 - a line of a table


def test_the_page_is_made_from_the_results(literal: Path) -> None:
    found = page.page(newest_runs(literal))
    assert found.startswith("# Performance\n\nMade by `make performance`")
    assert found.endswith(METHOD)
    assert PAGE in found
    assert TABLES in found
    table = found.partition("## Figures and targets\n\n")[2].partition("\n\n!")[0].splitlines()
    told = [row for row in table if "not measured" not in row]
    assert told[2:] == [
        "| batch norm + ReLU, ResNet-50, contiguous, float32, against eager, forward + backward, geometric mean "
        "| ≥ 3.5 × | 2.00 × (2 shapes; memory limit 8.00 ×, called from Python 4.00 ×) | not met |",
        "| batch norm + ReLU, ResNet-50, float32, against `torch.compile`, forward + backward, geometric mean | ≥ 10 × "
        "| 20.0 × (1 shape) | met |",
        "| training forward of batch norm + ReLU, tensors over 4 MB, against `clone()` | ≤ 1.25 × "
        "| 1.00 × geometric mean, 1.00 × the slowest of 1 | met |",
        "| every shape of every table, the slowest against eager, forward | ≥ 0.95 × "
        "| 1.00 × (2 × 5 × 10 × 10, batch norm + ReLU, ResNet-50, float32); 0 of 2 under | met |",
        "| every shape of every table, the slowest against eager, forward + backward | ≥ 0.95 × "
        "| 1.00 × (2 × 5 × 10 × 10, batch norm + ReLU, ResNet-50, float32); 0 of 2 under | met |",
        "| DenseNet-121, a training step, `accelerate_`d against stock | ≥ 1.2 × | 1.20 × | met, provisionally |",
        "| DenseNet-121, peak activation memory of a step, `lean` against stock | −35 % | −40 % | met, provisionally |",
        "| DenseNet-121, time of a step, `lean` against stock | ≤ 1.05 × | 0.92 × | met, provisionally |",
        "| DenseNet-121, time of a step, `lean` against the same without | ≤ 1.05 × | 1.10 × "
        "| not met, provisionally |",
    ]


def test_what_memory_allows() -> None:
    """A step of 10 s, of which norms take 4; 8 s if they only move their bytes."""
    row = {"network": "ResNet-50", "seconds": {"stock": (9, 10.0, 11), "accelerated": (7, 8.5, 9)}, "bytes": {}}
    row |= {"norms": 4.0, "bound": (7, 8.0, 9)}
    found = {figure.what: figure for figure in of_steps([row])}
    step = found["ResNet-50, a training step, `accelerate_`d against stock"]
    said = "norms, activations and adds are 40 % of it; if they only move their bytes 1.25 ×"
    assert step.measured == f"1.18 × ({said})"
    assert step.met
    of = {"of": "ResNet-50", "norm": "batch", "shape": [2, 1000, 10, 1000], "after": "relu", "dtype": "float32"}
    taken = {"ours": 4.0, "eager": 16.0, "copy": 1.0, "call": 1.0, "clone": 2.0}
    seconds = {name: dict.fromkeys(("forward", "both"), (1, median, 99)) for name, median in taken.items()}
    made = {"seconds": seconds, "bytes": {}, "kernel": "ours"}
    rows = [Measured.from_json(made | {"case": of | {"layout": layout}}) for layout in ("contiguous", "channels last")]
    once, twice, *rest = of_norms(rows)
    assert once.measured == "4.00 × (1 shape; memory limit 6.40 ×, called from Python 4.57 ×)"
    assert twice.measured == "4.00 × (1 shape; memory limit 6.40 ×, of two readings 4.00 ×, called from Python 3.20 ×)"
    (clones,) = (figure for figure in rest if "clone" in figure.what)  # 2 and 2.5 s against 2
    assert clones.measured.endswith("`copy_` 0 could not be under 1.25")


def test_what_was_not_measured_is_not_met() -> None:
    found = figures([*of_norms([]), *of_steps([])])
    assert found.count("| — | not measured |") == len(found.splitlines()) - 2


def test_the_picture_has_every_group_and_every_mark(literal: Path) -> None:
    rows = [Measured.from_json(row) for row in newest_runs(literal)["norms"].rows]
    points = chart.spec(rows, "a CPU")["datasets"]["points"]
    assert {point["mark"] for point in points} == set(chart.MARKS)
    assert {point["group"] for point in points} == set(grouped(rows))
    means = {point["way"]: point["ratio"] for point in points if point["mark"] == "geometric mean"}
    assert means == {"forward": 2.0, "both": 2.0}
    drawn = chart.svg(rows, "a CPU")
    for words in (
        "batch norm + ReLU, ResNet-50, float32",
        "forward + backward",
        "a CPU",
        "time of eager ÷ time of ours",
    ):
        assert words in drawn


def test_the_page_in_the_documents_is_that_of_the_newest_results() -> None:
    made = newest_runs(ROOT / "benchmarks" / "results")
    assert (ROOT / "docs" / "performance.md").read_text(encoding="utf-8") == page.page(made)
    assert (ROOT / "docs" / "performance.svg").exists()


def test_others_on_the_machine_are_seen() -> None:
    busy, own = machine.worked()
    if math.isnan(busy):
        pytest.skip("no /proc/stat")
    share = machine.others((busy - 3.0, own - 1.0), 10.0)
    assert share == pytest.approx(2.0 / (10.0 * (os.cpu_count() or 1)), abs=0.02)
