"""One sentence with its numbers: which variant is best, by how much, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normlab.lab.load import Results
from normlab.lab.metric import Metric
from normlab.lab.statistics import Estimate, paired_difference


@dataclass(frozen=True)
class VariantSummary:
    """One row of the table of a comparison."""

    name: str
    settings: dict[str, Any]
    values: tuple[float | None, ...]  # one a seed; None where the run diverged or has not finished
    mean: float | None
    low: float | None
    high: float | None
    epochs_to_target: float | None
    step_seconds: float | None
    diverged: int
    unfinished: int


def verdict(rows: Sequence[VariantSummary], metric: Metric) -> str:
    """Who wins, against each of the others, paired over seeds; then what diverged or did not finish."""
    ranked = ranking(rows, metric)
    said = _standing(ranked, metric) if ranked else f"No run ended with a test {metric.name}."
    for row in rows:
        if row.diverged:
            said += f" {row.name} diverged on {row.diverged} of {len(row.values)} seeds."
        if row.unfinished:
            said += f" {row.name}: {row.unfinished} of {len(row.values)} runs have not finished."
    return said


def pairing(results: Results) -> str:
    """Whether the variants of each seed started from the same weights and saw the same batches, as recorded."""
    if len(results.variants) < 2:
        return "One variant: nothing to pair."
    seeds = sorted({run.config.seed for run in results.runs})
    weights, orders = 0, 0
    for seed in seeds:
        runs = [run for run in results.runs if run.config.seed == seed]
        weights += _shared([run.status.initial_weights for run in runs if run.status.state != "planned"])
        orders += _shared([run.status.batch_order for run in runs if run.status.state == "done"])
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else "the one seed"
    if weights == len(seeds) and orders == len(seeds):
        return f"Checked: in {count}, all variants started from bit-identical weights and saw the same batches."
    differ = [
        f"{what} differ in {len(seeds) - same} of {count}"
        for what, same in (("initial weights", weights), ("batches", orders))
        if same < len(seeds)
    ]
    return f"Not fully paired: {' and '.join(differ)}; a difference between variants may come from that too."


def _shared(hashes: Sequence[str]) -> bool:
    return len(set(hashes)) <= 1


def ranking(rows: Sequence[VariantSummary], metric: Metric) -> list[VariantSummary]:
    """Variants with a result, best first. Fewer diverged runs come first: the mean of survivors alone would flatter."""
    sign = -1 if metric.goal == "max" else 1
    usable = [row for row in rows if row.mean is not None]
    return sorted(usable, key=lambda row: (row.diverged, sign * (row.mean or 0.0)))


def _standing(ranked: Sequence[VariantSummary], metric: Metric) -> str:
    best, others = ranked[0], ranked[1:]
    value = f"test {metric.name} {metric.text(best.mean or 0.0)}"
    if not others:
        return f"{best.name} ends at {value}."
    differences = [(row, paired_difference(best.values, row.values)) for row in others]
    against = "; ".join(_difference(row, found, metric) for row, found in differences)
    seeds = max((found.count for _, found in differences if found), default=0)
    if seeds < 2:
        return f"{best.name} is ahead with {value}: {against}. One seed gives no interval: add seeds=5."
    clear = all(found is not None and _is_clear(found, metric) for _, found in differences)
    opening = f"{best.name} wins with {value}" if clear else f"{best.name} leads with {value}, not clear of all others"
    return f"{opening}: {against}. Intervals are 95 %, paired over {seeds} seeds."


def _is_clear(difference: Estimate, metric: Metric) -> bool:
    if difference.low is None or difference.high is None:
        return False
    return difference.low > 0 if metric.goal == "max" else difference.high < 0


def _difference(row: VariantSummary, found: Estimate | None, metric: Metric) -> str:
    if found is None:
        return f"no seed in common with {row.name}"
    side = "above" if metric.goal == "max" else "below"
    sign = 1 if metric.goal == "max" else -1
    numbers = [sign * value for value in (found.mean, found.low, found.high) if value is not None]
    scaled = [f"{100 * value:.1f}" if metric.percent else f"{value:.3g}" for value in numbers]
    unit = " points" if metric.percent else ""
    said = f"{scaled[0]}{unit} {side} {row.name}"
    if len(scaled) == 1:
        return said
    chance = "" if _is_clear(found, metric) else ", so perhaps by chance"
    return f"{said} ({' to '.join(sorted(scaled[1:], key=float))}{chance})"
