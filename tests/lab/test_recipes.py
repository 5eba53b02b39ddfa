"""Every recipe, tiny: it runs, it is judged, and its report is drawn."""

from itertools import pairwise
from pathlib import Path

import pytest

from normlab.lab import compare, planned_runs, summarize, with_words
from normlab.lab.recipes import RECIPES
from normlab.lab.report import write_report
from normlab.lab.sweep import sweep_key

TINY = ["seeds=1", "epochs=1", "train_samples=64"]
# the smallest network of each kind
NETWORK = {
    "mlp": ["model.depth=1", "model.width=20"],
    "lenet": ["model.width=8", "norm_groups=4"],
    "resnet": ["model.depth=8", "model.width=8"],
    "densenet": ["model.depth=10"],
    "volumes": ["model.depth=1", "model.width=2"],
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_tiny_form_of_the_recipe_ends_in_a_report(name: str, tmp_path: Path) -> None:
    words = [*TINY, *NETWORK[RECIPES[name].base.model.kind]]
    recipe = with_words(RECIPES[name], [*RECIPES[name].quick, *words])
    results = compare(recipe, tmp_path)
    assert {run.status.state for run in results.runs} <= {"done", "diverged"}
    text = write_report(results, tmp_path / "report.html").read_text()
    assert recipe.question in text
    assert ("Along the sweep" in text) == (sweep_key(recipe) is not None)
    assert summarize(results).verdict


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_where_it_comes_from_and_how_long_it_takes(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.question.endswith("?")
    assert recipe.source
    assert recipe.takes
    quick = with_words(recipe, recipe.quick)
    steps = sum(run.config.epochs for run in planned_runs(recipe))
    assert sum(run.config.epochs for run in planned_runs(quick)) <= steps / 2


def test_the_sweeps_are_those_of_the_founding_documents() -> None:
    scales = RECIPES["weight-scale"].axes["init.weight_std"]
    assert len(scales) == 20
    assert (scales[0], scales[-1]) == (1e-4, 1.0)
    ratios = [float(b) / float(a) for a, b in pairwise(scales)]
    assert max(ratios) / min(ratios) < 1.02  # evenly spaced, to the three digits that are written
    assert RECIPES["batch-size"].axes == {"norm": ("none", "batch", "layer", "group"), "batch": (2, 5, 10, 50, 200)}
    rates = RECIPES["learning-rate"].axes["optimizer.lr"]
    assert len(rates) == 10
    assert float(rates[-1]) / float(rates[0]) == 1e4
    dropout = RECIPES["dropout"]
    assert dropout.axes["model.dropout"] == (0.0, 0.75)
    assert dropout.base.train_samples == 500
