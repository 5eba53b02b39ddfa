import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from normlab.errors import RecordError
from normlab.lab import Place, Recipe, Results, Run, compare, load, planned_runs, summarize
from normlab.lab.config import RunConfig
from normlab.lab.data import digits, load_data
from normlab.lab.environment import environment
from normlab.lab.record import Status, append_lines, begin, write_whole
from normlab.lab.streams import stream_seed
from normlab.lab.train import run

SmallRecipe = Callable[..., Recipe]


def ignore(status: Status, metric: float | None) -> None:
    pass


def small_run(small: SmallRecipe, folder: Path, *words: str, recipe: str = "deep-tanh") -> Run:
    """The first run of a small recipe, alone."""
    config = planned_runs(small(*words, recipe=recipe))[0].config
    run(config, folder / "run", ignore)
    return load(folder / "run").runs[0]


def generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, purpose))


def by_hand(seed: int) -> tuple[nn.Module, dict[str, float]]:
    """The run `batch, seed` of the small comparison in plain PyTorch: final model, and the last update ratios."""
    data = digits(0)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.BatchNorm1d(8),
        nn.Tanh(),
        nn.Linear(8, 8),
        nn.BatchNorm1d(8),
        nn.Tanh(),
        nn.Linear(8, 10),
    )
    draw = generator(seed, "init")
    with torch.no_grad():
        for layer in (model[1], model[4], model[7]):
            layer.weight.normal_(0.0, 0.05, generator=draw)
            layer.bias.fill_(-0.2)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    ratios = {}
    for epoch in (1, 2):
        order = torch.randperm(1437, generator=generator(seed, f"order {epoch}"))
        for start in range(0, 1437, 64):
            rows = order[start : start + 64]
            gradients = torch.autograd.grad(functional.cross_entropy(model(x[rows]), y[rows]), list(model.parameters()))
            layers = {"1": model[1], "2": model[4], "output": model[7]}
            old = {name: layer.weight.detach().clone() for name, layer in layers.items()}
            with torch.no_grad():
                for p, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                    v.mul_(0.9).add_(g)
                    p.sub_(v, alpha=0.1)
            ratios = {
                name: float((layer.weight.detach() - old[name]).norm() / old[name].norm())
                for name, layer in layers.items()
            }
    return model, ratios


@pytest.fixture(scope="module")
def plain() -> Iterator[tuple[nn.Module, dict[str, float]]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield by_hand(0)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def batch(finished: Results) -> Run:
    return finished.of("batch")[0]


def test_the_weights_are_those_of_a_plain_loop(batch: Run, plain: tuple[nn.Module, dict[str, float]]) -> None:
    """Bit for bit: measuring moved nothing, and batches, order and steps are those said."""
    found = list(load_file(batch.folder / "weights.safetensors").items())
    expected = list(plain[0].state_dict().items())
    names = {"1": "layer1.weights", "2": "layer1.norm", "4": "layer2.weights", "5": "layer2.norm", "7": "output"}
    renamed = {
        f"{names[module]}.{name}": value for (module, name), value in ((key.split("."), v) for key, v in expected)
    }
    assert {name for name, _ in found} == set(renamed)
    for name, value in found:
        assert torch.equal(value, renamed[name]), name
    assert any(name.endswith("num_batches_tracked") and value == 46 for name, value in found)


def test_the_update_ratio_is_that_of_the_last_step(batch: Run, plain: tuple[nn.Module, dict[str, float]]) -> None:
    assert batch.metrics[-1]["update_ratio"] == plain[1]
    assert batch.metrics[0]["update_ratio"] is None


def test_the_metric_is_that_of_the_final_weights(batch: Run, plain: tuple[nn.Module, dict[str, float]]) -> None:
    data = digits(0)
    with torch.no_grad():
        output = plain[0].eval()(torch.from_numpy(data.x_test))
    plain[0].train()
    right = (output.argmax(dim=1).numpy() == data.y_test).sum()
    assert batch.value == batch.metrics[-1]["metric"]["test"]["eval"] == right / 360


def test_there_is_one_line_an_epoch_and_one_before(batch: Run) -> None:
    assert [(line["epoch"], line["step"], line["seconds"]["steps"]) for line in batch.metrics] == [
        (0, 0, 0),
        (1, 23, 23),
        (2, 46, 23),
    ]
    assert list(batch.metrics[0])[-1] == "seconds"
    assert set(batch.metrics[1]["seconds"]) == {"train", "steps", "measure"}


def test_there_is_one_histogram_a_place_and_epoch(batch: Run) -> None:
    expected = {
        Place(epoch, layer, site, mode)
        for epoch in (0, 1, 2)
        for layer in ("1", "2")
        for site in ("pre_norm", "pre_activation", "activation")
        for mode in ("train", "eval")
    }
    assert set(batch.histograms) == expected
    assert {histogram.total() for histogram in batch.histograms.values()} == {16 * 8}


def test_the_same_config_twice_records_the_same(
    small: SmallRecipe, finished: Results, recorded: Callable[[Results], Any], tmp_path: Path
) -> None:
    torch.manual_seed(99)  # of no influence
    again = compare(small(), tmp_path)
    assert recorded(again) == recorded(finished)


def test_weight_decay_and_adam_reach_the_optimizer(small: SmallRecipe, tmp_path: Path) -> None:
    words = ("optimizer.name=adam", "optimizer.momentum=0", "optimizer.weight_decay=0.1", "norm=none")
    found = small_run(small, tmp_path, *words, "model.depth=1", "batch=2000", "epochs=1")
    data = digits(0)
    first, last = nn.Linear(64, 8), nn.Linear(8, 10)
    draw = generator(0, "init")
    with torch.no_grad():
        for layer in (first, last):
            layer.weight.normal_(0.0, 0.05, generator=draw)
            layer.bias.fill_(-0.2)
    order = torch.randperm(1437, generator=generator(0, "order 1"))
    x, y = torch.from_numpy(data.x_train)[order].flatten(1), torch.from_numpy(data.y_train)[order]
    optimizer = torch.optim.Adam([*first.parameters(), *last.parameters()], lr=0.1, weight_decay=0.1)
    functional.cross_entropy(last(first(x).tanh()), y).backward()
    optimizer.step()
    weights = load_file(found.folder / "weights.safetensors")
    assert torch.equal(weights["layer1.weights.weight"], first.weight)
    assert torch.equal(weights["output.bias"], last.bias)


def test_a_last_batch_of_one_is_left_out(small: SmallRecipe, tmp_path: Path) -> None:
    """1,437 = 4 × 359 + 1."""
    found = small_run(small, tmp_path, "norm=batch", "batch=359", "epochs=1")
    assert found.metrics[-1]["step"] == 4


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(small: SmallRecipe, tmp_path: Path) -> None:
    words = ("seeds=1", "epochs=3", "model.depth=1", "norm=none,batch", "optimizer.name=sgd", "batch=500")
    results = compare(small(*words, "optimizer.lr=1e30,0.001", recipe="bad-init"), tmp_path)
    states = {run.variant: run.status.state for run in results.runs}
    assert states == {
        "none, optimizer.lr=1e+30": "diverged",
        "none, optimizer.lr=0.001": "done",
        "batch, optimizer.lr=1e+30": "diverged",
        "batch, optimizer.lr=0.001": "done",
    }
    lost = results.runs[0]
    assert lost.status.reason == "the training loss of step 2 (epoch 1) is not finite"
    assert (lost.status.epoch, lost.value) == (1, None)
    assert [line["step"] for line in lost.metrics] == [0, 2]
    assert lost.metrics[-1]["update_ratio"] is None
    assert (lost.folder / "weights.safetensors").exists()
    assert "none, optimizer.lr=1e+30 diverged on 1 of 1 seeds." in summarize(results).verdict


def test_weights_lost_in_the_very_last_step_are_diverged_too(small: SmallRecipe, tmp_path: Path) -> None:
    """The loss before that step was finite, the one that is measured after it is not."""
    words = ("model.depth=1", "norm=none", "optimizer.name=sgd", "optimizer.lr=1e38", "batch=2000", "epochs=1")
    found = small_run(small, tmp_path, *words, recipe="bad-init")
    assert found.metrics[-1]["loss"]["train"]["eval"] is None
    assert found.status.state == "diverged"


def test_the_settings_of_torch_come_back(small: SmallRecipe, tmp_path: Path) -> None:
    config = planned_runs(small("threads=2", "epochs=1", "batch=2000"))[0].config
    seen = []

    def look(status: Status, metric: float | None) -> None:
        seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
        if status.epoch:
            raise RuntimeError("stop")

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.raises(RuntimeError, match="stop"):
            run(config, tmp_path / "run", look)
        assert seen == [(2, True)] * 2
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (1, False)
    finally:
        torch.set_num_threads(before)


def test_a_caller_who_only_wants_warnings_gets_them_back(small: SmallRecipe, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        small_run(small, tmp_path, "epochs=1")
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_environment_says_on_what_the_run_was_made(batch: Run) -> None:
    found = batch.environment
    assert set(found) == {
        "normlab",
        "commit",
        "python",
        "packages",
        "system",
        "processor",
        "cores",
        "device",
        "threads",
        "deterministic_algorithms",
        "data",
        "data_sha256",
        "own_files_sha256",
    }
    assert found["packages"]["torch"] == str(torch.__version__)
    assert set(found["packages"]) == {"torch", "numpy", "scikit-learn", "safetensors"}
    assert found["packages"]["numpy"] == np.__version__
    assert (found["device"], found["threads"], found["data"]) == ("cpu", 1, "digits")
    assert found["data_sha256"] == load_data("digits", 0).sha256()
    assert found["cores"] >= 1


def test_the_environment_is_plain_json() -> None:
    found = environment(RunConfig(data="curve"), "abc")
    assert json.loads(json.dumps(found)) == found


def test_an_earlier_attempt_is_moved_aside(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for attempt in range(3):
        begin(folder, RunConfig(seed=attempt), {"attempt": attempt})
        (folder / "notes.txt").write_text(f"of attempt {attempt}")
        assert [path.name for path in folder.iterdir() if path.suffix == ".part"] == []
    kept = {path.name: (path / "notes.txt").read_text() for path in tmp_path.iterdir()}
    assert kept == {"run": "of attempt 2", "run.attempt1": "of attempt 0", "run.attempt2": "of attempt 1"}
    assert json.loads((folder / "status.json").read_text())["state"] == "running"
    assert RunConfig.from_toml((folder / "config.toml").read_text()).seed == 2


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "status.json"
    write_whole(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(OSError, match="no"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    write_whole(path, b"new")
    assert path.read_text() == "new"


def test_what_json_cannot_hold_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_lines(path, [{"a": 1}])
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        append_lines(path, [{"a": 2}, {"a": math.nan}])
    append_lines(path, [])
    assert path.read_text() == '{"a":1}\n'


def test_a_run_alone_is_read_back_as_a_comparison_of_one(batch: Run) -> None:
    alone = load(batch.folder)
    assert alone.runs[0].value == batch.value
    assert alone.variants == ("batch",)
    assert alone.runs[0].config == batch.config


def test_a_comparison_cannot_be_resumed_from_one_of_its_runs(batch: Run) -> None:
    from normlab.lab import resume

    with pytest.raises(RecordError) as raised:
        resume(batch.folder)
    assert str(raised.value) == (
        f"{batch.folder}: this is one run; a comparison can be resumed.\n  fix: give its parent folder."
    )
