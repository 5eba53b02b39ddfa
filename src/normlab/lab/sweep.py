"""A comparison along a numeric setting: what each variant reaches at each of its values."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from normlab.lab import config
from normlab.lab.load import Results, Run
from normlab.lab.metric import Metric
from normlab.lab.recipe import Recipe, variant_name
from normlab.lab.record import ENDED
from normlab.lab.statistics import Estimate, paired_difference

FEWEST = 4  # fewer values are variants to be compared one by one


@dataclass(frozen=True)
class Point:
    """One line at one value: a number a seed, None where the run diverged before it was measured or has not ended."""

    line: str
    value: float
    best_test: tuple[float | None, ...]
    best_train: tuple[float | None, ...]
    final_loss: tuple[float | None, ...]


@dataclass(frozen=True)
class Sweep:
    """Every point of a sweep. A line is what else varies: the norm, as a rule."""

    key: str
    values: tuple[float, ...]
    lines: tuple[str, ...]
    points: tuple[Point, ...]
    metric: Metric
    target: float

    def reached(self, line: str) -> tuple[float, ...]:
        """For each seed, the number of values at which the best test metric is at the target."""
        rows = [point.best_test for point in self.points if point.line == line]
        return tuple(float(sum(self._at_target(value) for value in seed)) for seed in zip(*rows, strict=True))

    def range_reached(self, line: str) -> tuple[float, float] | None:
        """The smallest and the largest value at which at least half of the seeds reach the target."""
        good = [
            point.value
            for point in self.points
            if point.line == line and 2 * sum(map(self._at_target, point.best_test)) >= len(point.best_test)
        ]
        return (min(good), max(good)) if good else None

    def _at_target(self, value: float | None) -> bool:
        return value is not None and self.metric.reached(value, self.target)


def sweep_key(recipe: Recipe) -> str | None:
    """The one varied setting that is numeric and has at least four values; None if there is none, or more than one.

    Example:
        >>> from normlab.lab.recipe import with_words
        >>> from normlab.lab.recipes import RECIPES
        >>> sweep_key(with_words(RECIPES["deep-tanh"], ["batch=8,16,32,64"])), sweep_key(RECIPES["deep-tanh"])
        ('batch', None)
    """
    found = [key for key, values in recipe.axes.items() if len(values) >= FEWEST and all(map(_numeric, values))]
    return found[0] if len(found) == 1 else None


def sweep_of(results: Results) -> Sweep | None:
    """The comparison as a sweep, if it is one."""
    key = sweep_key(results.recipe)
    if key is None:
        return None
    others = [each for each in results.recipe.axes if each != key]
    groups: dict[tuple[str, float], dict[int, Run]] = {}
    for run in results.runs:
        place = _line(others, run), float(config.setting(run.config, key))
        groups.setdefault(place, {})[run.config.seed] = run
    points = []
    for (line, value), runs in groups.items():
        numbers = [_numbers(runs.get(seed), results.metric) for seed in results.seeds]
        points.append(Point(line, value, *zip(*numbers, strict=True)))
    lines = dict.fromkeys(line for line, _ in groups)
    values = tuple(sorted({point.value for point in points}))
    return Sweep(key, values, tuple(lines), tuple(points), results.metric, results.recipe.base.target)


def sweep_verdict(sweep: Sweep) -> str:
    """At how many values each line reaches the target; the best against the others, paired over seeds."""
    counts = {line: sweep.reached(line) for line in sweep.lines}
    best, *others = sorted(sweep.lines, key=lambda line: -sum(counts[line]))
    target = f"test {sweep.metric.name} {sweep.metric.text(sweep.target)}"
    said = f"{best} reaches {target} at {_at(sweep, best)} of {len(sweep.values)} values of {sweep.key}"
    for line in others:
        said += f"; {line} at {_at(sweep, line)}, {_fewer(paired_difference(counts[best], counts[line]))}"
    seeds = len(counts[best])
    return f"{said}. " + (f"Means over {seeds} seeds, 95 % intervals." if seeds > 1 else "One seed gives no interval.")


def _at(sweep: Sweep, line: str) -> str:
    counts = sweep.reached(line)
    ends = sweep.range_reached(line)
    return f"{sum(counts) / len(counts):g}" + (f" ({ends[0]:g} to {ends[1]:g})" if ends else "")


def _fewer(difference: Estimate | None) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return f"{difference.mean:g} fewer" if difference else "with no seed in common"
    return f"{difference.mean:g} fewer [{difference.low:.1f}, {difference.high:.1f}]"


def focus(results: Results, sweep: Sweep) -> tuple[Results, float]:
    """The runs at the one value where the lines differ most, to be drawn in full."""

    def spread(value: float) -> float:
        known = [_known(point.best_test) for point in sweep.points if point.value == value]
        means = [sum(numbers) / len(numbers) for numbers in known if numbers]
        return max(means) - min(means) if means else -1.0

    value = max(sweep.values, key=spread)
    kept = [run for run in results.runs if float(config.setting(run.config, sweep.key)) == value]
    axes = {key: values for key, values in results.recipe.axes.items() if key != sweep.key}
    recipe = results.recipe.model_copy(update={"axes": axes, "base": kept[0].config})
    named = [replace(run, variant=_line(axes, run)) for run in kept]
    return Results(results.folder, recipe, tuple(named)), value


def _line(keys: Iterable[str], run: Run) -> str:
    return variant_name({key: config.setting(run.config, key) for key in keys}, run.config)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _numeric(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(run: Run | None, metric: Metric) -> tuple[float | None, float | None, float | None]:
    """Best test metric, best training metric and final training loss of a run that has ended."""
    if run is None or run.status.state not in ENDED:
        return None, None, None
    best = max if metric.goal == "max" else min
    test = _known(line["metric"]["test"]["eval"] for line in run.metrics)
    train = _known(line["metric"]["train"]["eval"] for line in run.metrics)
    final = None if run.status.state == "diverged" else run.metrics[-1]["loss"]["train"]["train"]
    return best(test, default=None), best(train, default=None), final
