"""From records to the table and the sentence that a comparison ends in."""

import math
import statistics as middle
from dataclasses import dataclass
from typing import Any

from normlab.lab.config import RunConfig
from normlab.lab.load import Results, Run
from normlab.lab.metric import Metric
from normlab.lab.recipe import Recipe
from normlab.lab.record import ENDED
from normlab.lab.statistics import estimate
from normlab.lab.sweep import Sweep, sweep_of, sweep_verdict
from normlab.lab.verdict import VariantSummary, pairing, ranking, verdict


@dataclass(frozen=True)
class Summary:
    """What a comparison says."""

    recipe: Recipe
    metric: Metric
    variants: tuple[VariantSummary, ...]
    verdict: str
    pairing: str
    sweep: Sweep | None = None

    @property
    def best(self) -> str | None:
        """Name of the variant with the best result."""
        ranked = ranking(self.variants, self.metric)
        return ranked[0].name if ranked else None

    @property
    def target(self) -> str | None:
        """The target as a reader sees it; None where nobody chose one: the default is an accuracy."""
        chosen = self.recipe.base.target
        default = RunConfig.model_fields["target"].default
        return self.metric.text(chosen) if self.metric.percent or chosen != default else None


def summarize(results: Results) -> Summary:
    """The table and the verdict of a comparison, finished or not."""
    rows = tuple(_row(results, variant) for variant in results.variants)
    sweep = sweep_of(results)
    said = sweep_verdict(sweep) if sweep else verdict(rows, results.metric)
    return Summary(results.recipe, results.metric, rows, said, pairing(results, sweep.key if sweep else None), sweep)


def to_json(summary: Summary, folder: str) -> dict[str, Any]:
    """The object that `normlab compare --json` prints."""
    names = (
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
    )
    return {
        "folder": folder,
        "recipe": summary.recipe.name,
        "metric": {"name": summary.metric.name, "goal": summary.metric.goal},
        "variants": [{name: getattr(row, name) for name in names} for row in summary.variants],
        "verdict": summary.verdict,
        "pairing": summary.pairing,
        "sweep": _sweep_json(summary.sweep) if summary.sweep else None,
    }


def _sweep_json(sweep: Sweep) -> dict[str, Any]:
    reached = {line: {"reached": sweep.reached(line), "range": sweep.range_reached(line)} for line in sweep.lines}
    return {"key": sweep.key, "values": sweep.values, "target": sweep.target, "lines": reached}


def _row(results: Results, variant: str) -> VariantSummary:
    runs = results.of(variant)
    by_seed = {run.config.seed: run.value for run in runs}
    values = tuple(by_seed.get(seed) for seed in results.seeds)
    ended = [run for run in runs if run.status.state in ENDED]
    found = estimate([value for value in values if value is not None])
    return VariantSummary(
        variant,
        results.settings(variant),
        values,
        found.mean if found else None,
        results.metric.clip(found.low) if found and found.low is not None else None,
        results.metric.clip(found.high) if found and found.high is not None else None,
        _epochs_to_target(ended, results.metric),
        _step_seconds(ended),
        sum(run.status.state == "diverged" for run in runs),
        len(runs) - len(ended),
    )


def _epochs_to_target(runs: list[Run], metric: Metric) -> float | None:
    """The median over seeds of the first epoch at the target; None if half of the seeds or more never reach it."""
    firsts = []
    for run in runs:
        reached = (
            line["epoch"]
            for line in run.metrics
            if (value := line["metric"]["test"]["eval"]) is not None and metric.reached(value, run.config.target)
        )
        firsts.append(float(next(reached, math.inf)))
    found = middle.median(firsts) if firsts else math.inf
    return found if math.isfinite(found) else None


def _step_seconds(runs: list[Run]) -> float | None:
    """The median over epochs and seeds of the time of one training step, measuring left out."""
    times = [
        line["seconds"]["train"] / line["seconds"]["steps"]
        for run in runs
        for line in run.metrics
        if line["seconds"]["steps"]
    ]
    return middle.median(times) if times else None
