import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from normlab.lab import Recipe, Results, Run, create, load, planned_runs, summarize
from normlab.lab.metric import METRICS
from normlab.lab.record import Status
from normlab.lab.statistics import estimate
from normlab.lab.summary import to_json


def run(small: Callable[..., Recipe], seed: int, metrics: Sequence[float | None], state: Any = "done") -> Run:
    """A run whose test metric was so at each epoch; a step takes 10 + epoch ms."""
    plan = next(plan for plan in planned_runs(small("seeds=4", "norm=batch")) if plan.config.seed == seed)
    made = Run(Path(plan.folder), plan.variant, plan.config, Status(state, len(metrics) - 1, 2))
    made.__dict__["metrics"] = tuple(
        {
            "epoch": epoch,
            "metric": {"test": {"eval": value}},
            "seconds": {"train": (0.010 + 0.001 * epoch) * 20 * (epoch > 0), "steps": 20 * (epoch > 0), "measure": 9.0},
        }
        for epoch, value in enumerate(metrics)
    )
    return made


def summarized(small: Callable[..., Recipe], *runs: Run) -> Any:
    return summarize(Results(Path(), small("norm=batch", f"seeds={len(runs)}"), runs)).variants[0]


@pytest.mark.parametrize(
    ("firsts", "expected"),
    [
        ([2], 2.0),
        ([0, 2], 1.0),
        ([1, None], None),  # half of the seeds never reach it
        ([1, 2, None], 2.0),
        ([None, None, 1], None),
        ([1, 1, 2, None], 1.5),
    ],
)
def test_epochs_to_target_is_the_median_of_the_first(
    firsts: list[int | None], expected: float | None, small: Callable[..., Recipe]
) -> None:
    runs = [
        run(small, seed, [0.9 if first is not None and epoch >= first else 0.5 for epoch in range(3)])
        for seed, first in enumerate(firsts)
    ]
    assert summarized(small, *runs).epochs_to_target == expected


def test_the_first_time_counts_even_if_it_is_lost_again(small: Callable[..., Recipe]) -> None:
    assert summarized(small, run(small, 0, [0.1, 0.95, 0.2])).epochs_to_target == 1.0


def test_a_metric_that_is_not_finite_reaches_nothing(small: Callable[..., Recipe]) -> None:
    assert summarized(small, run(small, 0, [0.1, None], "diverged")).epochs_to_target is None


def test_a_smaller_error_reaches_the_target(small: Callable[..., Recipe]) -> None:
    made = run(small, 0, [700.0, 300.0, 200.0])
    changed = replace(made, config=made.config.model_copy(update={"target": 200.0}))
    changed.__dict__["metrics"] = made.metrics
    results = Results(Path(), small("norm=batch", "seeds=1", "model.depth=1", recipe="bad-init"), (changed,))
    assert results.metric == METRICS["regression"]
    assert summarize(results).variants[0].epochs_to_target == 2.0


def test_the_time_of_a_step_is_the_median_without_measuring(small: Callable[..., Recipe]) -> None:
    row = summarized(small, run(small, 0, [0.1, 0.2, 0.3]), run(small, 1, [0.1, 0.2, 0.3]))
    assert math.isclose(row.step_seconds, 0.0115, rel_tol=8 * 2**-52)


def test_what_did_not_end_is_counted_and_has_no_value(small: Callable[..., Recipe]) -> None:
    row = summarized(
        small,
        run(small, 0, [0.1, 0.9, 0.9]),
        run(small, 1, [0.1, None], "diverged"),
        run(small, 2, [0.1], "interrupted"),
        run(small, 3, [0.1], "failed"),
    )
    assert row.values == (0.9, None, None, None)
    assert (row.mean, row.low, row.high) == (0.9, None, None)
    assert (row.diverged, row.unfinished) == (1, 2)


def test_a_row_says_what_the_runs_recorded(finished: Results) -> None:
    summary = summarize(finished)
    for row, name in zip(summary.variants, ("none", "batch"), strict=True):
        runs = finished.of(name)
        values = tuple(run.metrics[-1]["metric"]["test"]["eval"] for run in runs)
        found = estimate(values)
        assert found is not None
        assert (row.name, row.settings, row.values) == (name, {"norm": name}, values)
        # two seeds give an interval that reaches beyond what an accuracy can be
        assert (row.mean, row.low, row.high) == (found.mean, max(found.low or 0.0, 0.0), min(found.high or 1.0, 1.0))
        seconds = [line["seconds"] for run in runs for line in run.metrics[1:]]
        assert row.step_seconds == median(each["train"] / each["steps"] for each in seconds)
        assert (row.diverged, row.unfinished) == (0, 0)
    assert summary.best == "batch"
    assert summary.pairing == (
        "Checked: in 2 seeds, all variants started from bit-identical weights and saw the same batches."
    )


def test_the_object_for_machines_has_the_keys_of_the_issue(finished: Results) -> None:
    found = to_json(summarize(finished), "runs/x")
    assert list(found) == ["folder", "recipe", "metric", "variants", "verdict", "pairing", "sweep"]
    assert found["folder"] == "runs/x"
    assert found["recipe"] == "deep-tanh"
    assert found["metric"] == {"name": "accuracy", "goal": "max"}
    assert [list(variant) for variant in found["variants"]] == [
        [
            "name",
            "settings",
            "values",
            "mean",
            "low",
            "high",
            "epochs_to_target",
            "step_seconds",
            "diverged",
            "unfinished",
        ]
    ] * 2
    assert json.loads(json.dumps(found, allow_nan=False))["variants"][1]["values"] == list(
        finished_values(finished, "batch")
    )


def finished_values(results: Results, variant: str) -> tuple[float | None, ...]:
    return tuple(run.value for run in results.of(variant))


def test_a_comparison_that_has_not_begun_is_plain_json_too(small: Callable[..., Recipe], tmp_path: Path) -> None:
    summary = summarize(load(create(small(), tmp_path)))
    assert summary.best is None
    found = json.loads(json.dumps(to_json(summary, "x"), allow_nan=False))
    assert [variant["mean"] for variant in found["variants"]] == [None, None]
    assert [variant["unfinished"] for variant in found["variants"]] == [2, 2]
