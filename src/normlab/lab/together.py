"""A comparison whose every run is trained by several processes together, as `torchrun` starts them."""

from contextlib import nullcontext
from pathlib import Path

from normlab.lab.compare import OnProgress, news_of, unfinished
from normlab.lab.load import Results, load
from normlab.lab.mend import alone, mend
from normlab.lab.processes import Processes
from normlab.lab.train import run


def resume_together(folder: Path, processes: Processes, on_progress: OnProgress) -> Results:
    """Runs what a comparison has not finished, one run after the other; every process calls this.

    An error in one process ends all of them, as `torchrun` stops the others: they would wait for it.

    Args:
        folder: of a comparison, the same for all processes.
        processes: this process among them; the first one alone records.
        on_progress: called in the first process with news of every run.
    """
    first = processes.rank == 0
    if first:
        mend(folder)
    processes.wait()
    with alone(folder) if first else nullcontext():
        results = load(folder)
        left = unfinished(results)
        processes.wait()  # nobody begins before all have read what there is to do
        for planned in left:
            run(planned.config, folder / planned.folder, news_of(planned, on_progress))
    return load(folder) if first else results
