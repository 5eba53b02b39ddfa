"""The number a comparison is judged by."""

import math
from dataclasses import dataclass
from typing import Literal

from normlab.lab.config import RunConfig
from normlab.lab.data.forms import form_of


@dataclass(frozen=True)
class Metric:
    """Name, direction and display of a metric; always taken on the test set in eval mode at the end of a run."""

    name: str
    goal: Literal["max", "min"]
    percent: bool
    least: float = 0.0  # what it cannot fall below

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is better than `b`."""
        return a > b if self.goal == "max" else a < b

    def reached(self, value: float, target: float) -> bool:
        """Whether `value` is at least as good as `target`."""
        return value == target or self.better(value, target)

    def clip(self, value: float) -> float:
        """The value within the range of the metric: an interval of few seeds can reach beyond it."""
        return min(max(value, 0.0), 1.0) if self.percent else max(value, self.least)

    def clip_difference(self, value: float) -> float:
        """A difference of two values, within what is possible."""
        return min(max(value, -1.0), 1.0) if self.percent else value

    def text(self, value: float) -> str:
        """The value as a reader sees it.

        Example:
            >>> METRICS["classification"].text(0.9722), METRICS["regression"].text(693.04)
            ('97.2 %', '693')
        """
        return f"{self._plain(value)} %" if self.percent else self._plain(value)

    def interval(self, low: float, high: float) -> str:
        """Two ends with the unit said once.

        Example:
            >>> METRICS["classification"].interval(0.939, 0.98)
            '93.9 to 98.0 %'
        """
        return f"{self._plain(low)} to {self.text(high)}"

    def _plain(self, value: float) -> str:
        if self.percent:
            return f"{100 * value:.1f}"
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:.2e}"


METRICS = {
    "classification": Metric("accuracy", "max", percent=True),
    "regression": Metric("mean squared error", "min", percent=False),
}


def metric_of(config: RunConfig) -> Metric:
    """What a comparison with this config is judged by.

    Example:
        >>> metric_of(RunConfig(data="curve")).name
        'mean squared error'
    """
    if config.metric:
        return Metric(config.metric.rpartition(":")[2], config.goal, percent=False, least=-math.inf)
    form = form_of(config.data)
    task = form.task if form else config.task
    if config.loss and task != "classification":
        return Metric("loss", "min", percent=False, least=-math.inf)
    return METRICS[task or "classification"]
