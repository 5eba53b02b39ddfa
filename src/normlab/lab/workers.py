"""Runs on worker processes of dask.distributed, one torch thread each."""

import itertools
import logging
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dask
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker

from normlab.lab.compare import OnProgress, Progress
from normlab.lab.config import RunConfig
from normlab.lab.read import read_status
from normlab.lab.recipe import PlannedRun
from normlab.lab.record import ENDED, STATUS, Status

TOPIC = "normlab"
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # who gets another try is decided in `on_workers`
    "distributed.worker.memory.terminate": False,  # memory is the user's to spend, not dask's to guard
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
}


def on_workers(
    folder: Path, runs: Sequence[PlannedRun], jobs: int, on_progress: OnProgress
) -> Iterator[tuple[PlannedRun, Exception | None]]:
    """Each run as it ends, with what went wrong; `on_progress` is called from a thread of the client."""
    by_folder = {planned.folder: planned for planned in runs}

    def hear(event: tuple[float, dict[str, Any]]) -> None:
        news = event[1]
        on_progress(Progress(by_folder[news["run"]], Status(**news["status"]), news["metric"]))

    with (
        dask.config.set(SETTINGS),
        LocalCluster(
            n_workers=jobs, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_DeafToCtrlC())
        client.subscribe_topic(TOPIC, hear)
        killed = []
        for planned, failure in _side_by_side(client, folder, runs, jobs):
            if isinstance(failure, KilledWorker):
                killed.append(planned)
            else:
                yield planned, failure
        # Dask blames a death on every run that the worker was given. Each gets one more try, alone: the one that
        # kills its worker can take no other with it.
        for planned in killed:
            yield from _side_by_side(client, folder, [planned], 1)


def _side_by_side(
    client: Client, folder: Path, runs: Sequence[PlannedRun], jobs: int
) -> Iterator[tuple[PlannedRun, Exception | None]]:
    """Never more runs under way than workers."""

    def submit(planned: PlannedRun) -> Any:
        return client.submit(_work, planned.config, folder / planned.folder, pure=False)

    waiting = iter(runs)
    futures = {submit(planned): planned for planned in itertools.islice(waiting, jobs)}
    completed = as_completed(list(futures))
    for future in completed:
        planned, failure = futures.pop(future), future.exception()
        # forgotten at once: a result still wanted is computed again when its worker dies
        future.release()
        for following in itertools.islice(waiting, 1):
            new = submit(following)
            futures[new] = following
            completed.add(new)
        yield planned, failure


class _DeafToCtrlC(WorkerPlugin):
    """The terminal sends Ctrl-C to every process; only the one that shows the progress acts on it."""

    name = "deaf-to-ctrl-c"

    def setup(self, worker: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(config: RunConfig, folder: Path) -> None:
    from normlab.lab.train import run  # torch is loaded on the workers alone

    if (folder / STATUS).exists() and read_status(folder).state in ENDED:
        return  # its worker died between the end of the run and the news of it
    worker = get_worker()

    def report(status: Status, metric: float | None) -> None:
        worker.log_event(TOPIC, {"run": folder.name, "status": asdict(status), "metric": metric})

    run(config, folder, report)
