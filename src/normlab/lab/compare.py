"""A comparison: every planned run of a recipe in one new folder, in this process or on workers."""

import errno
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from normlab import errors
from normlab.lab.children import RunFailed, started
from normlab.lab.load import Results, load
from normlab.lab.mend import alone, mend
from normlab.lab.recipe import PlannedRun, Recipe, planned_runs
from normlab.lab.record import CONFIG, ENDED, RECIPE, Status, new_folder, write_status, write_whole

# the disk itself refuses: no other run could be recorded either
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


@dataclass(frozen=True)
class Progress:
    """News of one run: where it stands, and its test metric (None if not finite or not yet known)."""

    run: PlannedRun
    status: Status
    metric: float | None


OnProgress = Callable[[Progress], None]
Outcomes = Generator[tuple[PlannedRun, Exception | None], None, None]


def compare(
    recipe: Recipe,
    out: Path | str = "runs",
    jobs: int = 1,
    on_progress: OnProgress = lambda progress: None,
    scheduler: str | None = None,
    timeout: float | None = None,
) -> Results:
    """Runs every variant with every seed into a new folder under `out`.

    Args:
        recipe: what to run; see `normlab.lab.RECIPES` and `normlab.lab.with_words`.
        out: parent of the new folder, made if missing.
        jobs: runs side by side, each in a process of its own with one torch thread; 1 stays in this process. With
            `scheduler`, runs under way at a time, and 0 is as many as its workers have threads.
        on_progress: called with news of every run, from another thread if runs have their own processes.
        scheduler: address of a dask scheduler whose workers do the runs. They must see `out` at the same path and have
            the same versions of normlab and torch. Give only one that you trust: dask runs what it is sent.
        timeout: seconds after which a run is given up, counted from its beginning, and recorded as failed. It then has
            a process of its own, which is killed. None or 0 is never.

    Returns:
        The records, read back. A run that diverged or failed is among them; the others went on.

    Raises:
        RecordError: the records cannot be written, or the scheduler has gone; the text says how to go on.
        UsageError: no scheduler answers, or its workers cannot do the runs.

    Example:
        >>> from normlab.lab import RECIPES, compare, with_words
        >>> tiny = with_words(RECIPES["deep-tanh"], ["seeds=1", "epochs=1", "norm=batch", "model.depth=1"])
        >>> results = compare(tiny, out=getfixture("tmp_path"))
        >>> results.runs[0].status.state
        'done'
    """
    return resume(create(recipe, out), jobs, on_progress, scheduler, timeout)


def create(recipe: Recipe, out: Path | str = "runs") -> Path:
    """Makes the folder of a comparison, with its recipe in it and nothing run yet.

    Args:
        recipe: what `resume` will run.
        out: parent of the new folder, made if missing.

    Raises:
        RecordError: the folder cannot be made.
    """
    return new_folder(Path(out), recipe.name, RECIPE, recipe.to_toml())


def resume(
    folder: Path | str,
    jobs: int = 1,
    on_progress: OnProgress = lambda progress: None,
    scheduler: str | None = None,
    timeout: float | None = None,
) -> Results:
    """Runs what a comparison has not finished, or what is damaged; other finished and diverged runs are left alone.

    Args:
        folder: of a comparison.
        jobs: see `compare`.
        on_progress: see `compare`.
        scheduler: see `compare`.
        timeout: see `compare`.

    Raises:
        RecordError: the folder is not a comparison, the records cannot be written, or the scheduler has gone.
        UsageError: no scheduler answers, or its workers cannot do the runs.
    """
    folder = Path(folder)
    results = mend(folder)
    left = unfinished(results)
    if not left:
        return results
    if scheduler is None and not timeout and min(jobs, len(left)) < 2:
        outcomes = _in_this_process(folder, left, on_progress)
    else:
        outcomes = _apart(folder, left, jobs, on_progress, scheduler, timeout or None)
    with alone(folder):
        try:
            # closed before anything is settled: then no run writes any more
            with closing(outcomes):
                for planned, failure in outcomes:
                    if failure is not None:
                        _settle_failure(folder, planned, failure, on_progress)
        finally:
            _settle_interrupted(folder)
    return load(folder)


def unfinished(results: Results) -> list[PlannedRun]:
    """What has yet to be run: all but the runs that are done or diverged."""
    ended = {run.folder.name for run in results.runs if run.status.state in ENDED}
    return [planned for planned in planned_runs(results.recipe) if planned.folder not in ended]


def news_of(planned: PlannedRun, on_progress: OnProgress) -> Callable[[Status, float | None], None]:
    """What a run calls after each epoch, so that `on_progress` hears which run it was."""
    return lambda status, metric: on_progress(Progress(planned, status, metric))


def _in_this_process(folder: Path, runs: Sequence[PlannedRun], on_progress: OnProgress) -> Outcomes:
    """Each run as it ends, with what went wrong."""
    from normlab.lab.train import run  # torch takes seconds to load

    for planned in runs:
        try:
            run(planned.config, folder / planned.folder, news_of(planned, on_progress))
        except Exception as error:
            yield planned, error
        else:
            yield planned, None


def _apart(
    folder: Path,
    runs: Sequence[PlannedRun],
    jobs: int,
    on_progress: OnProgress,
    scheduler: str | None,
    timeout: float | None,
) -> Outcomes:
    """The same in other processes."""
    here = max(1, min(jobs, len(runs)))
    with started(0 if scheduler else here):
        from normlab.lab.workers import on_workers  # dask loads while torch loads in the processes just started

        yield from on_workers(folder, runs, jobs if scheduler else here, on_progress, scheduler, timeout)


def _settle_failure(folder: Path, planned: PlannedRun, failure: Exception, on_progress: OnProgress) -> None:
    """Notes why a run failed; the others go on, unless the disk takes no more."""
    if isinstance(failure, OSError) and failure.errno in DISK_ERRORS:
        problem = errors.Problem(
            "the disk takes no more records; every finished run is kept.",
            got=str(failure),
            fix=f"make room, then: normlab compare --resume {folder}",
        )
        raise errors.RecordError(errors.message(str(folder), problem)) from failure
    reason = str(failure) if isinstance(failure, RunFailed) else f"{type(failure).__name__}: {failure}"
    status = Status("failed", 0, planned.config.epochs, reason)
    place = folder / planned.folder
    place.mkdir(exist_ok=True)
    write_whole(place / CONFIG, planned.config.to_toml())
    write_status(place, status)
    on_progress(Progress(planned, status, None))


def _settle_interrupted(folder: Path) -> None:
    """Whatever still says `running` when nothing runs any more was interrupted."""
    for run in load(folder).runs:
        if run.status.state == "running":
            with suppress(OSError):  # a full disk: `running` is read as unfinished too
                write_status(run.folder, replace(run.status, state="interrupted", reason="stopped before its end"))
