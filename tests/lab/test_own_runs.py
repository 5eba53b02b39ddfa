"""Comparisons of networks and data of the user's from beginning to end."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lab.own_code import write as write
from torch import nn

from normlab import lab
from normlab.errors import UsageError
from normlab.lab.judge import Judge, accuracy, squared_error
from normlab.lab.prepare import prepare
from normlab.lab.recipes.own import own_recipe
from normlab.lab.reproduce import reproduce

Write = Callable[..., Path]

CODE = """
    import numpy as np
    import torch
    from torch import nn

    def mlp():
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3))

    def value():
        return nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 8, padding_idx=0)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 1)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            pad = x == 0
            y = self.encoder(self.embed(x), src_key_padding_mask=pad)
            return self.head((y * ~pad[..., None]).sum(1))

    X = np.random.default_rng(0).normal(size=(24, 2))

    def labels():
        return X[:16], X[:16].argmax(1), X[16:], X[16:].argmax(1)

    def values():
        return X[:16], X[:16, 0] + 5, X[16:], X[16:, 0] + 5

    def tokens(seed):
        x = np.random.default_rng(seed).integers(1, 9, (24, 5))
        x[::2, 3:] = 0
        return x[:16], x[:16, 0] % 3, x[16:], x[16:, 0] % 3

    def huber(output, y):
        return nn.functional.smooth_l1_loss(output, y)

    def largest_miss(output, y):
        return float((output - y).abs().max())
"""


def recipe_of(path: Path, model: str, data: str, *words: str) -> lab.Recipe:
    small = ("seeds=2", "epochs=1", "batch=8", "norm_groups=4", f"data={path}:{data}")
    return lab.with_words(own_recipe(f"{path}:{model}"), [*small, *words])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize(
    ("model", "data", "norms", "places"),
    [
        ("mlp", "labels", "none,batch,group,layer,rms", ["1"]),
        ("Words", "tokens", "none,batch,group,layer,instance,rms",
         ["encoder.layers.0.norm1", "encoder.layers.0.norm2"]),
    ],
)  # fmt: skip
def test_every_norm_trains_from_the_same_weights_and_is_recorded(
    write: Write, tmp_path: Path, model: str, data: str, norms: str, places: list[str]
) -> None:
    recipe, _ = prepare(recipe_of(write(CODE), model, data, f"norm={norms}"))
    results = lab.compare(recipe, tmp_path)
    assert [run.status.state for run in results.runs] == ["done"] * len(results.runs)
    assert lab.summarize(results).pairing.startswith("Checked: in 2 seeds, all variants started from bit-identical")
    for run in results.runs:
        assert {line["layer"] for line in run.metrics[-1]["sites"]} == set(places)
        assert run.environment["own_files_sha256"].keys() == {recipe.base.model.factory, recipe.base.data}
        assert run.model["swapped"].keys() == {"swapped", "kept"}


def test_values_are_judged_by_what_they_ask_for(write: Write, tmp_path: Path) -> None:
    path = write(CODE)
    words = (f"loss={path}:huber", f"metric={path}:largest_miss", "goal=min", "norm=none,layer", "seeds=1")
    recipe, _ = prepare(recipe_of(path, "value", "values", *words))
    results = lab.compare(recipe, tmp_path)
    summary = lab.summarize(results)
    assert (summary.metric.name, summary.metric.goal, summary.metric.percent) == ("largest_miss", "min", False)
    values = {run.variant: run.value for run in results.runs}
    assert summary.best == min(values, key=lambda name: values[name] or math.inf)
    assert "%" not in summary.verdict.replace("95 %", "")
    # the recorded numbers are theirs: the weights at the end, on the test set, by hand
    run = next(run for run in results.runs if run.variant == "layer")
    from safetensors.torch import load_file

    model = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    model.load_state_dict(load_file(run.folder / "weights.safetensors"))
    data = lab_data(recipe)
    miss = model(torch.tensor(data.x_test, dtype=torch.float32)).detach() - torch.tensor(
        data.y_test, dtype=torch.float32
    )
    assert run.value == pytest.approx(float(miss.abs().max()))
    assert run.metrics[-1]["loss"]["test"]["eval"] == pytest.approx(
        float(torch.where(miss.abs() < 1, miss.square() / 2, miss.abs() - 0.5).mean())
    )


def lab_data(recipe: lab.Recipe) -> Any:
    from normlab.lab.data import load_data

    return load_data(recipe.base.data, recipe.base.data_seed)


def test_one_value_a_sample_is_compared_with_one(write: Write, tmp_path: Path) -> None:
    """(N, 1) against (N,) would be compared each with each, and the loss be near the variance whatever is learned."""
    path = write(CODE.replace(", nn.Flatten(0))", ")"))
    recipe, _ = prepare(recipe_of(path, "value", "values", "norm=none", "seeds=1", "epochs=60", "optimizer.lr=0.05"))
    (run,) = lab.compare(recipe, tmp_path).runs
    assert run.value is not None
    assert run.value < 0.1 * lab_data(recipe).y_test.var()


def test_a_column_is_squared_error_s_only_exception() -> None:
    y = torch.tensor([1.0, 2.0])
    assert squared_error(torch.tensor([[1.0], [4.0]]), y) == 2
    assert squared_error(torch.tensor([1.0, 4.0]), y[:, None]) == 2
    assert squared_error(torch.ones(2, 3), torch.zeros(2, 3)) == 1
    assert accuracy(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1])) == 0.5
    images = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])  # (N, C, H, W) against (N, H, W)
    assert accuracy(images, torch.tensor([[[1, 1]]])) == 0.5


@pytest.mark.parametrize("loss", [torch.tensor(float("nan")), torch.tensor(float("inf"))])
def test_a_loss_that_is_not_finite_leaves_no_metric(loss: torch.Tensor) -> None:
    judge = Judge(lambda output, y: loss, lambda output, y: 1.0)
    assert judge.scores(torch.zeros(1), torch.zeros(1)) == (None, None)
    assert Judge(lambda output, y: loss, None).scores(torch.zeros(1), torch.zeros(1)) == (None, None)


def test_workers_find_their_files_from_any_folder_and_get_the_same_numbers(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Callable[[Any], Any]
) -> None:
    write("def more(x):\n    return x\n", "code/helper.py")
    path = write("from helper import more\n" + __import__("textwrap").dedent(CODE), "code/my.py")
    monkeypatch.chdir(path.parent)
    recipe, _ = prepare(recipe_of(Path("my.py"), "mlp", "labels", "norm=batch,layer", "seeds=1"))
    monkeypatch.chdir("/")
    one, two = (lab.compare(recipe, tmp_path / str(jobs), jobs) for jobs in (1, 2))
    assert recorded(one) == recorded(two)


def test_a_record_says_that_their_file_has_changed_since(write: Write, tmp_path: Path) -> None:
    path = write(CODE)
    recipe, _ = prepare(recipe_of(path, "mlp", "labels", "norm=layer", "seeds=1"))
    (run,) = lab.compare(recipe, tmp_path).runs
    again = reproduce(run.folder)
    assert again.identical
    assert "own_files_sha256" not in again.environment
    path.write_text(path.read_text().replace("nn.Dropout(0.1)", "nn.Dropout(0.2)"))
    changed = reproduce(run.folder)
    assert not changed.identical
    before, now = changed.environment["own_files_sha256"]
    assert before.keys() == now.keys()
    assert all(before[name] != now[name] for name in before)
    assert json.loads((run.folder / "env.json").read_text())["own_files_sha256"] == before


def test_a_run_of_a_network_that_is_there_no_more_says_so(write: Write, tmp_path: Path) -> None:
    path = write(CODE)
    recipe, _ = prepare(recipe_of(path, "mlp", "labels", "norm=layer", "seeds=1"))
    (run,) = lab.compare(recipe, tmp_path).runs
    path.unlink()
    with pytest.raises(UsageError) as caught:
        reproduce(run.folder)
    assert str(caught.value) == f"compare: there is no file {path}.\n  fix: write FILE.py:FUNCTION."
