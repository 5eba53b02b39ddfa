"""A comparison: every planned run of a recipe in one new folder, in this process or on workers."""

import errno
import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from normlab import errors
from normlab.lab.load import Results, Run, load
from normlab.lab.recipe import PlannedRun, Recipe, planned_runs
from normlab.lab.record import CONFIG, ENDED, RECIPE, Status, write_status, write_whole

# the disk itself refuses: no other run could be recorded either
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}


@dataclass(frozen=True)
class Progress:
    """News of one run: where it stands, and its test metric (None if not finite or not yet known)."""

    run: PlannedRun
    status: Status
    metric: float | None


OnProgress = Callable[[Progress], None]


def compare(
    recipe: Recipe,
    out: Path | str = "runs",
    jobs: int = 1,
    on_progress: OnProgress = lambda progress: None,
) -> Results:
    """Runs every variant with every seed into a new folder under `out`.

    Args:
        recipe: what to run; see `normlab.lab.RECIPES` and `normlab.lab.with_words`.
        out: parent of the new folder, made if missing.
        jobs: worker processes, one torch thread each; 1 stays in this process. With more, a script must guard its
            entry with `if __name__ == "__main__":`, because the workers import it.
        on_progress: called with news of every run, from another thread if there are workers.

    Returns:
        The records, read back. A run that diverged or failed is among them; the others went on.

    Raises:
        RecordError: the records cannot be written; the text says how to go on.

    Example:
        >>> from normlab.lab import RECIPES, compare, with_words
        >>> tiny = with_words(RECIPES["deep-tanh"], ["seeds=1", "epochs=1", "norm=batch", "model.depth=1"])
        >>> results = compare(tiny, out=getfixture("tmp_path"))
        >>> results.runs[0].status.state
        'done'
    """
    return resume(create(recipe, out), jobs, on_progress)


def create(recipe: Recipe, out: Path | str = "runs") -> Path:
    """Makes the folder of a comparison, with its recipe in it and nothing run yet.

    Args:
        recipe: what `resume` will run.
        out: parent of the new folder, made if missing.

    Raises:
        RecordError: the folder cannot be made.
    """
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{recipe.name}"
    number = 1
    while True:
        folder = Path(out) / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            write_whole(folder / RECIPE, recipe.to_toml())
        except FileExistsError:
            number += 1
        except OSError as error:
            problem = errors.Problem("the folder cannot be made.", got=str(error), fix="choose another with --out.")
            raise errors.RecordError(errors.message(str(folder), problem)) from None
        else:
            return folder


def resume(folder: Path | str, jobs: int = 1, on_progress: OnProgress = lambda progress: None) -> Results:
    """Runs what a comparison has not finished, or what is damaged; other finished and diverged runs are left alone.

    Args:
        folder: of a comparison.
        jobs: see `compare`.
        on_progress: see `compare`.

    Raises:
        RecordError: the folder is not a comparison, or the records cannot be written.
    """
    folder = Path(folder)
    results = load(folder)
    if not (folder / RECIPE).exists():
        problem = errors.Problem("this is one run; a comparison can be resumed.", fix="give its parent folder.")
        raise errors.RecordError(errors.message(str(folder), problem))
    ended = {run.folder.name for run in results.runs if run.status.state in ENDED and _is_readable(run)}
    left = [planned for planned in planned_runs(results.recipe) if planned.folder not in ended]
    with _alone(folder):
        try:
            for planned, failure in _outcomes(folder, left, jobs, on_progress):
                if failure is not None:
                    _settle_failure(folder, planned, failure, on_progress)
        finally:
            _settle_interrupted(folder)
    return load(folder)


def _is_readable(run: Run) -> bool:
    """Whether the records of a run are whole; one that is damaged is run again, and moved aside by that."""
    try:
        return bool(run.metrics and run.histograms)
    except errors.RecordError:
        return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the system lets go of it even after a kill."""
    with (folder / RECIPE).open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = errors.Problem("another process is running this comparison.", fix="wait for it to end.")
            raise errors.RecordError(errors.message(str(folder), problem)) from None
        yield


def _outcomes(
    folder: Path, runs: Sequence[PlannedRun], jobs: int, on_progress: OnProgress
) -> Iterator[tuple[PlannedRun, Exception | None]]:
    """Each run as it ends, with what went wrong."""
    if jobs > 1 and len(runs) > 1:
        from normlab.lab.workers import on_workers  # dask takes a second to import

        yield from on_workers(folder, runs, min(jobs, len(runs)), on_progress)
        return
    from normlab.lab.train import run  # and torch three

    for planned in runs:

        def report(status: Status, metric: float | None, planned: PlannedRun = planned) -> None:
            on_progress(Progress(planned, status, metric))

        try:
            run(planned.config, folder / planned.folder, report)
        except Exception as error:
            yield planned, error
        else:
            yield planned, None


def _settle_failure(folder: Path, planned: PlannedRun, failure: Exception, on_progress: OnProgress) -> None:
    """Notes why a run failed; the others go on, unless the disk takes no more."""
    if isinstance(failure, OSError) and failure.errno in DISK_ERRORS:
        problem = errors.Problem(
            "the disk takes no more records; every finished run is kept.",
            got=str(failure),
            fix=f"make room, then: normlab compare --resume {folder}",
        )
        raise errors.RecordError(errors.message(str(folder), problem)) from failure
    reason = f"{type(failure).__name__}: {failure}"
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
