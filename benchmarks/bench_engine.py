"""What a sweep costs beside its training: 40 runs of about a second each, two at a time.

    python -m benchmarks.bench_engine [--epochs 17]

The overhead is (wall time × 2 − training)/training, where training is the time that all runs spent in `train.run`,
measured in their processes. Its parts: until the first run of a process begins, between runs, after the last.
"""

import gc
import time

ENTERED = time.time()
gc.disable()  # as a child does; see `children.LOAD`

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from benchmarks.machine import keep  # noqa: E402
from normlab.lab import RECIPES, child, children, compare, with_words  # noqa: E402

JOBS = 2


def timed_child(log: Path) -> None:
    """A child that notes when it was started, when torch was there, and when each run began and ended."""
    load, times = child._load, log / f"{os.getpid()}.jsonl"

    def note(what: dict[str, float]) -> None:
        with times.open("a", encoding="utf-8") as file:
            file.write(json.dumps(what) + "\n")

    def timed_load() -> None:
        began = time.time()
        load()
        from normlab.lab import train

        run = train.run

        def timed_run(*arguments: Any) -> Any:
            began = time.time()
            found = run(*arguments)
            note({"began": began, "ended": time.time()})
            return found

        train.run = timed_run
        note({"entered": ENTERED, "load": began, "loaded": time.time(), "cpu": time.process_time()})

    child._load = timed_load
    child.main()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=17)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        timed_child(options.child)
        return
    gc.enable()
    busy = os.getloadavg()[0]
    recipe = with_words(RECIPES["deep-tanh"], ["norm=none,batch,layer,rms", "seeds=10", f"epochs={options.epochs}"])
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.mkdir()
        children.COMMAND = (sys.executable, "-m", "benchmarks.bench_engine", "--child", str(log))
        began = time.time()
        results = compare(recipe, Path(folder) / "runs", JOBS)
        ended = time.time()
        slots = [[json.loads(line) for line in path.read_text().splitlines()] for path in log.iterdir()]
    assert all(run.status.state in ("done", "diverged") for run in results.runs)
    assert len(slots) == JOBS
    assert sum(len(runs) for _, *runs in slots) == len(results.runs)
    trained = sum(run["ended"] - run["began"] for _, *runs in slots for run in runs)
    figures = {
        "epochs": options.epochs,
        "runs": len(results.runs),
        "wall_s": ended - began,
        "trained_s": trained,
        "overhead": (JOBS * (ended - began) - trained) / trained,
        # seconds of both processes together
        "python_starts_s": sum(start["entered"] - began for start, *_ in slots),
        "normlab_loads_s": sum(start["load"] - start["entered"] for start, *_ in slots),
        "torch_loads_s": sum(start["loaded"] - start["load"] for start, *_ in slots),
        "loading_takes_cpu_s": sum(start["cpu"] for start, *_ in slots),
        "first_run_waits_s": sum(runs[0]["began"] - start["loaded"] for start, *runs in slots),
        "between_runs_s": sum(
            after["began"] - before["ended"] for _, *runs in slots for before, after in itertools.pairwise(runs)
        ),
        "after_the_last_s": sum(ended - runs[-1]["ended"] for _, *runs in slots),
        "load_average_before": busy,
    }
    for name, value in figures.items():
        print(f"{name:22} {value:8.3f}" if isinstance(value, float) else f"{name:22} {value:8}")
    keep("engine", figures)


if __name__ == "__main__":
    main()
