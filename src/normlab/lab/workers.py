"""Runs side by side, handed out by dask to threads here or to the workers of a cluster, and by those to children."""

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker

from normlab import errors
from normlab.lab.children import RunDied
from normlab.lab.cluster import CONNECT_SECONDS, foreign, local, undisturbed
from normlab.lab.compare import OnProgress, Outcomes, Progress
from normlab.lab.on_worker import ORPHAN_SECONDS, TOKEN, Order, WrongWorker, sent, wait_until, words
from normlab.lab.recipe import PlannedRun
from normlab.lab.record import Status, write_whole

GROWTH_SECONDS = 2.0  # between two looks at the size of the cluster
LEAVE_SECONDS = 5.0  # that we wait for runs to stop when they are cancelled


def on_workers(
    folder: Path,
    runs: Sequence[PlannedRun],
    jobs: int,
    on_progress: OnProgress,
    scheduler: str | None = None,
    timeout: float | None = None,
) -> Outcomes:
    """Each run as it ends, with what went wrong.

    Args:
        folder: of the comparison.
        runs: what to run.
        jobs: runs under way at a time; with a scheduler, 0 is as many as its workers have threads.
        on_progress: called from a thread of dask.
        scheduler: address of a dask scheduler whose workers do the runs; by default they are done on this machine.
        timeout: seconds that a run may take; None is no limit.

    Raises:
        UsageError: no scheduler answers, or a worker has other versions or does not see the folder.
        RecordError: the scheduler has gone.
    """
    order = Order(str(folder.absolute()), timeout, token=uuid4().hex if scheduler else "")
    by_folder = {planned.folder: planned for planned in runs}
    under_way: set[str] = set()

    def hear(event: tuple[float, dict[str, Any]]) -> None:
        news = event[1]
        if "status" in news:
            on_progress(Progress(by_folder[news["run"]], Status(**news["status"]), news["metric"]))
        elif news["under_way"]:
            under_way.add(news["run"])
        else:
            under_way.discard(news["run"])

    def room() -> int:
        try:
            return jobs or max(1, sum(client.nthreads().values()))
        except OSError:
            raise _gone(order) from None

    with ExitStack() as stack:
        if scheduler is None:
            client = stack.enter_context(local(jobs))
        else:
            client = stack.enter_context(foreign(scheduler, folder))
            token = Path(order.folder, TOKEN)
            stack.callback(token.unlink, missing_ok=True)
            write_whole(token, order.token)
            _wait_for_workers(client, scheduler)
        client.subscribe_topic(order.topic, hear)
        killed = []
        for planned, failure in _side_by_side(client, order, runs, room, under_way):
            if isinstance(failure, RunDied | KilledWorker):
                killed.append(planned)
            else:
                yield planned, failure
        # A run may have died of the memory that those beside it took, so each gets one more try, alone.
        for planned in killed:
            yield from _side_by_side(client, order, [planned], lambda: 1, under_way)


def _side_by_side(
    client: Client, order: Order, runs: Sequence[PlannedRun], room: Callable[[], int], under_way: set[str]
) -> Outcomes:
    waiting = deque(runs)
    futures: dict[Future[None], PlannedRun] = {}
    finished: SimpleQueue[Future[None]] = SimpleQueue()
    try:
        while waiting or futures:
            free = room() - len(futures) if waiting else 0
            for planned in [waiting.popleft() for _ in range(min(free, len(waiting)))]:
                future = client.submit(sent(), planned.config.to_toml(), planned.folder, asdict(order), pure=False)
                futures[future] = planned
                future.add_done_callback(finished.put)
            try:
                future = finished.get(timeout=GROWTH_SECONDS)
            except Empty:
                continue
            planned, failure = futures.pop(future), _failure(future, order)
            future.release()  # forgotten at once: a result still wanted is computed again when its worker dies
            under_way.discard(planned.folder)
            yield planned, failure
    finally:
        if futures:
            with undisturbed():
                client.cancel(list(futures))
                # where the scheduler has gone its workers stop by themselves, and nobody tells us
                wait_until(lambda: not under_way, LEAVE_SECONDS if client.status == "running" else ORPHAN_SECONDS)


def _wait_for_workers(client: Client, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:  # a cluster that grows when there is work has none before
        warnings.warn(f"{scheduler} has no workers yet: start some with `dask worker`.", stacklevel=2)


def _failure(future: Future[None], order: Order) -> Exception | None:
    """What went wrong in a run; what went wrong with its worker is raised."""
    if future.cancelled():
        raise _gone(order)
    failure: Exception | None = future.exception()
    if isinstance(failure, WrongWorker):
        raise errors.UsageError(str(failure))
    if failure is None or not order.token or isinstance(failure, errors.NormlabError | OSError | KilledWorker):
        return failure
    problem = errors.Problem(
        "a worker cannot do our runs.",
        got=f"{type(failure).__name__}: {failure}",
        fix=f"install {words(order.versions)} on every worker, then: {order.go_on()}",
    )
    raise errors.UsageError(errors.message("--scheduler", problem)) from failure


def _gone(order: Order) -> errors.RecordError:
    fix = f"start it, then: {order.go_on()}"
    problem = errors.Problem("the scheduler has gone; every finished run is kept.", fix=fix)
    return errors.RecordError(errors.message("--scheduler", problem))
