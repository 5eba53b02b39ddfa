"""What measuring costs: runs of the default recipe, with and without it, taken in turns.

    python -m benchmarks.bench_lab [--seeds 5]

For each variant and seed the same run is made twice, once as always and once with nothing measured or recorded.
The cost is (with − without) / with; and, as a second witness, the share of a run that is spent inside measuring.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.machine import keep
from normlab.lab import RECIPES, planned_runs, train, with_words
from normlab.lab.recipe import PlannedRun

RECORD = train._record


def timed(planned: PlannedRun, measuring: bool) -> tuple[float, float]:
    """Seconds of the whole run, and of those the seconds inside measuring."""
    inside = 0.0

    def record(*arguments: Any) -> tuple[float | None, float | None]:
        nonlocal inside
        began = time.perf_counter()
        scores = RECORD(*arguments) if measuring else (0.0, 0.0)
        inside += time.perf_counter() - began
        return scores

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(train, "_record", record):
        began = time.perf_counter()
        train.run(planned.config, Path(folder) / "run", lambda status, metric: None)
        return time.perf_counter() - began, inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    runs = planned_runs(with_words(RECIPES["deep-tanh"], [f"seeds={parser.parse_args().seeds}"]))
    timed(runs[0], measuring=True)  # imports and caches
    total: dict[str, list[tuple[float, float, float]]] = {}
    for planned in runs:
        without, _ = timed(planned, measuring=False)
        with_, inside = timed(planned, measuring=True)
        total.setdefault(planned.variant, []).append((with_, without, inside))
    print("variant   with s  without s  cost  inside")
    everything = [row for rows in total.values() for row in rows]
    for name, rows in [*total.items(), ("all", everything)]:
        with_, without, inside = (statistics.fmean(column) for column in zip(*rows, strict=True))
        print(f"{name:8} {with_:7.3f} {without:10.3f} {1 - without / with_:5.1%} {inside / with_:7.1%}")
        keep("lab", {"variant": name, "with_s": with_, "without_s": without, "inside": inside / with_})


if __name__ == "__main__":
    main()
