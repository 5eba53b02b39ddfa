"""A sweep: read off records written by hand, and said in one sentence."""

from pathlib import Path
from typing import Any

import pytest

from normlab.lab.load import Results, Run
from normlab.lab.recipe import Recipe, planned_runs, with_words
from normlab.lab.recipes import RECIPES
from normlab.lab.record import Status
from normlab.lab.sweep import focus, sweep_key, sweep_of, sweep_verdict

# best test accuracy by norm and batch, one a seed
BEST = {
    ("none", 8): (0.5, 0.95),
    ("none", 16): (0.5, 0.6),
    ("none", 32): (0.7, 0.7),
    ("none", 64): (0.9, 0.8),
    ("batch", 8): (0.1, 0.2),
    ("batch", 16): (0.95, 0.96),
    ("batch", 32): (0.95, 0.96),
    ("batch", 64): (0.95, 0.96),
}


def recipe(*words: str) -> Recipe:
    return with_words(RECIPES["deep-tanh"], ["norm=none,batch", "batch=8,16,32,64", "seeds=2", *words])


def line(test: float, train: float, loss: float) -> dict[str, Any]:
    return {"metric": {"test": {"eval": test}, "train": {"eval": train}}, "loss": {"train": {"train": loss}}}


def results(state: str = "done") -> Results:
    """Each run reaches its best in epoch 1 and is a little worse at the end."""
    runs = []
    for planned in planned_runs(recipe()):
        best = BEST[planned.config.norm, planned.config.batch][planned.config.seed]
        run = Run(Path(planned.folder), planned.variant, planned.config, Status(state, 2, 2, "", "w", "o"))  # type: ignore[arg-type]
        run.__dict__["metrics"] = (line(0.1, 0.1, 2.3), line(best, 0.99, 0.5), line(best - 0.05, 0.98, 0.25))
        runs.append(run)
    return Results(Path(), recipe(), tuple(runs))


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["optimizer.lr=0.1"], "batch"),
        (["optimizer.lr=1,2,3"], "batch"),
        (["optimizer.lr=1,2,3,4"], None),
        (["batch=8,16,32"], None),
        (["batch=8", "model.input_norm=true,false"], None),
    ],
)
def test_what_is_a_sweep(words: list[str], key: str | None) -> None:
    assert sweep_key(recipe(*words)) == key


def test_points_hold_the_best_of_every_epoch_and_the_loss_of_the_last() -> None:
    sweep = sweep_of(results())
    assert sweep is not None
    assert (sweep.key, sweep.values, sweep.lines) == ("batch", (8.0, 16.0, 32.0, 64.0), ("none", "batch"))
    found = {(point.line, point.value): point for point in sweep.points}
    assert {(name, int(value)): point.best_test for (name, value), point in found.items()} == BEST
    assert found["none", 8.0].best_train == (0.99, 0.99)
    assert found["none", 8.0].final_loss == (0.25, 0.25)


def test_reached_is_counted_for_each_seed() -> None:
    sweep = sweep_of(results())
    assert sweep is not None
    assert sweep.reached("none") == (1.0, 1.0)  # 64 with seed 0 (0.9 is the target itself), 8 with seed 1
    assert sweep.reached("batch") == (3.0, 3.0)
    assert sweep.range_reached("batch") == (16.0, 64.0)
    assert sweep.range_reached("none") == (8.0, 64.0)


def test_the_verdict_counts_values() -> None:
    sweep = sweep_of(results())
    assert sweep is not None
    assert sweep_verdict(sweep) == (
        "batch reaches test accuracy 90.0 % at 3 (16 to 64) of 4 values of batch; "
        "none at 1 (8 to 64), 2 fewer [2.0, 2.0]. Means over 2 seeds, 95 % intervals."
    )


def test_runs_that_have_not_ended_reach_nothing() -> None:
    sweep = sweep_of(results("interrupted"))
    assert sweep is not None
    assert sweep.reached("batch") == (0.0, 0.0)
    assert sweep.range_reached("batch") is None
    assert {point.best_test for point in sweep.points} == {(None, None)}


def test_a_diverged_run_has_a_best_epoch_but_no_final_loss() -> None:
    sweep = sweep_of(results("diverged"))
    assert sweep is not None
    assert sweep.points[0].best_test == (0.5, 0.95)
    assert sweep.points[0].final_loss == (None, None)


def test_the_focus_is_where_the_lines_differ_most() -> None:
    """Means at 8: 0.725 and 0.15; at 16: 0.55 and 0.955; at 32: 0.7 and 0.955; at 64: 0.85 and 0.955."""
    whole = results()
    sweep = sweep_of(whole)
    assert sweep is not None
    found, value = focus(whole, sweep)
    assert value == 8.0
    assert found.variants == ("none", "batch")
    assert {run.config.batch for run in found.runs} == {8}
    assert sweep_of(found) is None
