"""A comparison that is to go on: one process at a time holds it, and what is damaged in it is moved aside."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from normlab import errors
from normlab.lab.load import Results, Run, load
from normlab.lab.read import read_config, read_status
from normlab.lab.recipe import PlannedRun, Recipe, planned_runs
from normlab.lab.record import ENDED, METRICS, RECIPE, STATUS, set_aside


def mend(folder: Path | str) -> Results:
    """Reads a comparison that is to go on. A run whose records are damaged is moved aside: it has yet to be run.

    Args:
        folder: of the comparison.

    Raises:
        RecordError: the folder is not a comparison, or another process is running it.
    """
    folder = Path(folder)
    if not (folder / RECIPE).exists():
        load(folder)  # which says so if it is no run either
        problem = errors.Problem("this is one run; a comparison can be resumed.", fix="give its parent folder.")
        raise errors.RecordError(errors.message(str(folder), problem))
    with alone(folder):
        for planned in planned_runs(read_config(folder / RECIPE, Recipe)):
            place = folder / planned.folder
            if ((place / STATUS).exists() or (place / METRICS).exists()) and not _is_readable(place, planned):
                set_aside(place)
        return load(folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds a comparison for this process; the system lets go of it even after a kill.

    Raises:
        RecordError: another process holds it.
    """
    with (folder / RECIPE).open("r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = errors.Problem("another process is running this comparison.", fix="wait for it to end.")
            raise errors.RecordError(errors.message(str(folder), problem)) from None
        yield


def _is_readable(place: Path, planned: PlannedRun) -> bool:
    try:
        run = Run(place, planned.variant, planned.config, read_status(place))
        return run.status.state not in ENDED or bool(run.metrics and run.histograms)
    except errors.RecordError:
        return False
