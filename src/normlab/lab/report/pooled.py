"""The distributions of one variant: counts and moments of all its seeds together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normlab.lab.grid import Histogram
from normlab.lab.load import Place, Run
from normlab.lab.report.recorded import counted, lines


@dataclass(frozen=True)
class Pooled:
    """What all seeds of a variant had at one place and epoch; moments are None if no value was finite."""

    counted: Histogram
    mean: float | None
    std: float | None


def pooled(runs: Sequence[Run]) -> dict[Place, Pooled]:
    """Counts added and moments joined over the runs that reached the epoch."""
    histograms: dict[Place, Histogram] = {}
    moments: dict[Place, list[tuple[int, float, float]]] = {}
    for run in runs:
        recorded = _moments(run)
        for place, histogram in counted(run).items():
            histograms[place] = histograms[place] + histogram if place in histograms else histogram
            site = recorded.get(place, {})
            finite = histogram.total() - histogram.nonfinite
            if finite and site.get("mean") is not None and site.get("std") is not None:
                moments.setdefault(place, []).append((finite, site["mean"], site["std"]))
    return {place: Pooled(histogram, *join(moments.get(place, []))) for place, histogram in histograms.items()}


def join(moments: Sequence[tuple[int, float, float]]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of groups of values taken together, from count, mean and deviation of each.

    Example:
        >>> join([(2, 0.0, 1.0), (2, 4.0, 1.0)])  # -1, 1 and 3, 5
        (2.0, 2.23606797749979)
    """
    total = sum(count for count, _, _ in moments)
    if not total:
        return None, None
    mean = sum(count * each for count, each, _ in moments) / total
    var = sum(count * (std**2 + (each - mean) ** 2) for count, each, std in moments) / total
    return mean, math.sqrt(var)


def _moments(run: Run) -> dict[Place, dict[str, Any]]:
    return {
        Place(line["epoch"], site["layer"], site["site"], site["mode"]): site
        for line in lines(run)
        for site in line["sites"]
    }
