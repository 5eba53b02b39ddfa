"""Two runs held against each other: settings, environment, results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab import errors
from normlab.lab import config
from normlab.lab.config import RunConfig
from normlab.lab.load import Run, load
from normlab.lab.metric import Metric, metric_of
from normlab.lab.reproduce import Reproduction, compare_runs

Change = tuple[Any, Any]


@dataclass(frozen=True)
class Contrast:
    """What differs between two runs: before, after."""

    settings: dict[str, Change]
    environment: dict[str, Change]
    metric: Metric
    values: tuple[float | None, float | None]
    states: tuple[str, str]
    numbers: Reproduction

    @property
    def identical(self) -> bool:
        """Whether every recorded number is the same, whatever the settings say."""
        return self.numbers.identical


def contrast(first: Path, second: Path) -> Contrast:
    """Reads two runs and compares them.

    Raises:
        RecordError: a folder is not a run, is damaged, or has not ended.
    """
    a, b = _run(first), _run(second)
    numbers = compare_runs(a, b)
    changed = {
        key: (config.setting(a.config, key), config.setting(b.config, key))
        for key in config.keys(RunConfig)
        if config.setting(a.config, key) != config.setting(b.config, key)
    }

    return Contrast(
        changed,
        numbers.environment,
        metric_of(a.config),
        (a.value, b.value),
        (a.status.state, b.status.state),
        numbers,
    )


def _run(folder: Path) -> Run:
    runs = load(folder).runs
    if len(runs) != 1 or runs[0].status.state not in ("done", "diverged"):
        problem = errors.Problem("two runs that have ended can be compared.", fix="give the folder of one run each.")
        raise errors.RecordError(errors.message(str(folder), problem))
    return runs[0]
