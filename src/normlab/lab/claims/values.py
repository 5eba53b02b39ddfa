"""Numbers of one run. A run that diverged has them too, so that it counts instead of being left out."""

from collections.abc import Sequence

from normlab.lab.load import Run
from normlab.lab.metric import metric_of

# the same words wherever a claim uses the number
FINAL = "a run that diverged counts with the worst value it recorded"
BEST = "of a run that diverged, the best before that"
REACHED = "a run that never reaches it counts as one epoch more than it has"


def final_test(run: Run) -> float | None:
    """The test metric at the end; of a run that diverged, the worst that was recorded."""
    values = _test(run)
    known = _known(values)
    if run.status.state == "done" and values[-1] is not None:
        return values[-1]
    return (min if metric_of(run.config).goal == "max" else max)(known, default=None)


def best_test(run: Run) -> float | None:
    """The best test metric of all epochs."""
    return (max if metric_of(run.config).goal == "max" else min)(_known(_test(run)), default=None)


def reaches_target(run: Run) -> bool:
    """Whether the best test metric is at the target."""
    best = best_test(run)
    return best is not None and metric_of(run.config).reached(best, run.config.target)


def epochs_to_target(run: Run) -> float:
    """The first epoch whose test metric is at the target; one more than the run has if there is none."""
    metric, target = metric_of(run.config), run.config.target
    reached = (n for n, value in enumerate(_test(run)) if value is not None and metric.reached(value, target))
    return float(next(reached, run.config.epochs + 1))


def gap_to_test(run: Run) -> float | None:
    """The metric of the training samples that are probed less that of the test set, in the last epoch that has both."""
    for line in reversed(run.metrics):
        train, test = line["metric"]["train"]["eval"], line["metric"]["test"]["eval"]
        if train is not None and test is not None:
            found: float = train - test
            return found
    return None


def _test(run: Run) -> list[float | None]:
    return [line["metric"]["test"]["eval"] for line in run.metrics]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
