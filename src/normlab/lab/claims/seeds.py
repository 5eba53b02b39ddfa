"""Effects within a seed: its runs share initial weights and batches, so that what differs is what was varied."""

from collections.abc import Callable, Mapping
from typing import Any

from normlab.lab import config
from normlab.lab.claims.claim import Effect
from normlab.lab.load import Results, Run
from normlab.lab.record import ENDED

Value = Callable[[Run], float | None]
Chosen = Mapping[str, Any]


def difference(results: Results, first: Chosen, second: Chosen, value: Value) -> Effect:
    """For each seed, the value of its run with the first settings less that of its run with the second."""
    return minus(each(results, first, value), each(results, second, value))


def each(results: Results, chosen: Chosen, value: Value) -> Effect:
    """For each seed, the value of the run with these settings; None if it has not ended."""
    found = {run.config.seed: value(run) for run in results.runs if fits(run, chosen) and run.status.state in ENDED}
    return tuple(found.get(seed) for seed in results.seeds)


def minus(a: Effect, b: Effect, times: float = 1.0) -> Effect:
    """a − times · b where both are known.

    Example:
        >>> minus((5.0, None, 3.0), (1.0, 1.0, 2.0), times=2.0)
        (3.0, None, -1.0)
    """
    return tuple(None if x is None or y is None else x - times * y for x, y in zip(a, b, strict=True))


def in_points(effect: Effect) -> Effect:
    """Differences of a metric between 0 and 1, in points."""
    return tuple(None if value is None else 100 * value for value in effect)


def sweeps(results: Results, chosen: Chosen, key: str) -> tuple[dict[float, Run] | None, ...]:
    """For each seed, its runs along a setting, in its order; None if one of them has not ended."""
    found: list[dict[float, Run] | None] = []
    for seed in results.seeds:
        runs = [run for run in results.runs if run.config.seed == seed and fits(run, chosen)]
        ended = all(run.status.state in ENDED for run in runs)
        by_value = {float(config.setting(run.config, key)): run for run in runs}
        found.append(dict(sorted(by_value.items())) if ended else None)
    return tuple(found)


def fits(run: Run, chosen: Chosen) -> bool:
    """Whether the run has all of these settings."""
    return all(config.setting(run.config, key) == value for key, value in chosen.items())
