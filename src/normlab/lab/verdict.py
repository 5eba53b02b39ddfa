"""One sentence with its numbers: which variant is best, by how much, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normlab.lab import config
from normlab.lab.load import Results, Run
from normlab.lab.metric import Metric
from normlab.lab.statistics import Estimate, paired_difference

NAMED = 4  # the verdict names the nearest of the others; the table has them all


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


def pairing(results: Results, sweep_key: str | None = None) -> str:
    """Whether the variants of each seed started from the same weights and saw the same batches, as recorded.

    Along a sweep, variants are held against those at the same value: another value may well mean other weights.
    """
    if len(results.variants) < 2:
        return "One variant: nothing to pair."
    began = [run for run in results.runs if run.status.initial_weights]
    if not began:
        return "No run has begun, so nothing was checked."
    groups: dict[tuple[int, object], list[Run]] = {}
    for run in began:
        value = config.setting(run.config, sweep_key) if sweep_key else None
        groups.setdefault((run.config.seed, value), []).append(run)
    if len(groups) == len(began):
        return "No two runs share a seed, so nothing was checked."
    seeds, values = len(results.seeds), len({value for _, value in groups})
    count = f"{seeds} seeds" if seeds > 1 else "the one seed"
    count += f" and at {values} values of {sweep_key}" if sweep_key else ""
    # a diverged run saw the first batches of the others and then no more
    done = [[run for run in runs if run.status.state == "done"] for runs in groups.values()]
    weights = sum(len({run.status.initial_weights for run in runs}) > 1 for runs in groups.values())
    batches = sum(len({(run.status.batch_order, run.config.batch) for run in runs}) > 1 for runs in done)
    of = f"{len(groups)} places" if sweep_key else count
    differ = [
        f"{what} differ in {many} of {of}"
        for what, many in (("initial weights", weights), ("batches", batches))
        if many
    ]
    if differ:
        return f"Not fully paired: {' and '.join(differ)}; a difference between variants may come from that too."
    if not any(run.status.state == "done" for run in began):
        return f"Checked: in {count}, all variants started from bit-identical weights; none came to its end."
    if len(began) < len(results.runs):
        so_far = f"Only {len(began)} of {len(results.runs)} runs began"
        return f"{so_far}; among them, those of one seed started from bit-identical weights and saw the same batches."
    return f"Checked: in {count}, all variants started from bit-identical weights and saw the same batches."


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
    against = "; ".join(_difference(row, found, metric) for row, found in differences[:NAMED])
    if len(differences) > NAMED:
        more = len(differences) - NAMED
        against += f"; and {more} more variant{'s' if more > 1 else ''} behind these"
    seeds = max((found.count for _, found in differences if found), default=0)
    if seeds < 2:
        return f"{best.name} is ahead with {value}: {against}. One seed gives no interval: add seeds=5."
    # a variant that diverges more often is beaten whatever the survivors reach
    clear = all(
        row.diverged > best.diverged or (found is not None and _excludes_zero(found) and _gain(found, metric) > 0)
        for row, found in differences
    )
    opening = f"{best.name} wins with {value}" if clear else f"{best.name} leads with {value}, not clear of all others"
    return f"{opening}: {against}. Intervals are 95 %, paired over {seeds} seeds."


def _excludes_zero(difference: Estimate) -> bool:
    return difference.low is not None and difference.high is not None and difference.low * difference.high > 0


def _gain(difference: Estimate, metric: Metric) -> float:
    return difference.mean if metric.goal == "max" else -difference.mean


def _difference(row: VariantSummary, found: Estimate | None, metric: Metric) -> str:
    if found is None:
        return f"no seed in common with {row.name}"
    if found.mean == found.low == found.high == 0.0:
        return f"level with {row.name} on every seed"
    side = "above" if found.mean >= 0 else "below"
    values = [found.mean, *(value for value in (found.low, found.high) if value is not None)]
    sizes = [value if found.mean >= 0 else -value for value in map(metric.clip_difference, values)]
    said = [f"{100 * size:.1f}" if metric.percent else f"{size:.3g}" for size in sizes]
    text = f"{said[0]}{' points' if metric.percent else ''} {side} {row.name}"
    if len(said) == 1:
        return text
    chance = "" if _excludes_zero(found) else ", so perhaps by chance"
    return f"{text} ({' to '.join(sorted(said[1:], key=float))}{chance})"
