"""Runs in processes of their own, each kept for the next run: what hangs or dies there costs one run."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from normlab import errors
from normlab.lab.config import RunConfig
from normlab.lab.read import read_status
from normlab.lab.record import ENDED, STATUS, Status

# a quarter of the seconds that loading takes is the collector's, which finds nothing: `child` turns it on again
LOAD = "import gc; gc.disable(); from normlab.lab.child import main; main()"
COMMAND = (sys.executable, "-P", "-c", LOAD)
LOOK_SECONDS = 0.1  # between two looks at the clock
REST_SECONDS = 60.0  # that a process waits for its next run, on a cluster whose other work wants the memory
# as dask's own workers have it: torch's threads are set by the run
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class RunFailed(errors.NormlabError):
    """A run came to nothing in its process; the text is the reason that is recorded."""


class RunDied(RunFailed):
    """The process of a run died under it."""


@dataclass(frozen=True)
class Origin:
    """Where a run was planned: there the user's own functions are found, by a relative path or as a module."""

    directory: str
    path: list[str]


def origin() -> Origin:
    """This process. What belongs to its Python is left out: the one that does the run has its own."""
    own = [str(Path(place).absolute()) for place in sys.path]
    path = [place for place in own if not Path(place).is_relative_to(sys.prefix)]
    return Origin(str(Path.cwd()), [place for place in path if not Path(place).is_relative_to(sys.base_prefix)])


@dataclass(frozen=True, eq=False)
class _Child:
    process: subprocess.Popen[str]
    news: "SimpleQueue[dict[str, Any] | None]"  # None at the end of the process


_resting: dict[_Child, threading.Timer] = {}


@contextmanager
def started(count: int) -> Iterator[None]:
    """Children that load torch while the caller does something else; nobody is left afterwards."""
    try:
        for _ in range(count):
            _rest(_start())
        yield
    finally:
        while (child := _rested()) is not None:
            _end(child)


def run_apart(
    config: RunConfig,
    folder: Path,
    on_epoch: Callable[[Status, float | None], None],
    timeout: float | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
    planned_at: Origin | None = None,
) -> None:
    """`train.run` in another process, which is killed when the time is up or nobody wants the run any more.

    Args:
        config: every setting of the run.
        folder: where the records go.
        on_epoch: see `train.run`.
        timeout: seconds that the run may take from its beginning, when torch is loaded; None is no limit.
        is_wanted: asked several times a second.
        planned_at: where the run was planned, if not in this process.

    Raises:
        RunFailed: the run raised, took too long or is not wanted any more.
        RunDied: its process died.
        OSError: the records cannot be written.
    """
    child = _rested() or _start()
    try:
        _ask(child, {"config": config.to_toml(), "folder": str(folder.absolute()), **asdict(planned_at or origin())})
        last = _last_news(child, on_epoch, timeout, is_wanted)
    except BaseException as error:
        _end(child)
        if isinstance(error, RunFailed) and has_ended(folder):
            return  # in its last moment: everything is recorded
        raise
    _rest(child)
    if "os_error" in last:
        raise OSError(*last["os_error"])
    if "error" in last:
        raise RunFailed(last["error"])


def has_ended(folder: Path) -> bool:
    """Whether the run of this folder has come to its own end."""
    return (folder / STATUS).exists() and read_status(folder).state in ENDED


def _ask(child: _Child, job: dict[str, Any]) -> None:
    if child.process.stdin is not None:
        with suppress(BrokenPipeError):  # it has just died: the end of its news says so
            child.process.stdin.write(json.dumps(job) + "\n")
            child.process.stdin.flush()


def _last_news(
    child: _Child,
    on_epoch: Callable[[Status, float | None], None],
    timeout: float | None,
    is_wanted: Callable[[], bool],
) -> dict[str, Any]:
    end = math.inf
    while True:
        try:
            news = child.news.get(timeout=LOOK_SECONDS)
        except Empty:
            news = {}
        if news is None:
            raise RunDied(_how_it_died(child))
        if "status" in news:
            on_epoch(Status(**news["status"]), news["metric"])
        elif "begun" in news:
            end = time.monotonic() + (timeout or math.inf)
        elif news:
            return news
        if time.monotonic() > end:
            raise RunFailed(f"stopped after {timeout:g} s (--timeout)")
        if not is_wanted():
            raise RunFailed("nobody wants it any more")


def _how_it_died(child: _Child) -> str:
    code = child.process.wait()
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"the process of the run {how}"


def _start() -> _Child:
    process = subprocess.Popen(  # noqa: S603 - our own program
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | ONE_THREAD,
        process_group=0,  # the terminal sends Ctrl-C to a whole group; only the one who shows the progress acts on it
    )
    child = _Child(process, SimpleQueue())
    threading.Thread(target=_read, args=(process.stdout, child.news), daemon=True).start()
    return child


def _read(lines: TextIO, news: "SimpleQueue[dict[str, Any] | None]") -> None:
    with lines:
        for line in lines:
            if line.endswith("\n"):  # else it was killed in the middle of it
                news.put(json.loads(line))
    news.put(None)


def _rest(child: _Child) -> None:
    def end() -> None:
        if _resting.pop(child, None):
            _end(child)

    timer = threading.Timer(REST_SECONDS, end)
    timer.daemon = True
    _resting[child] = timer
    timer.start()


def _rested() -> _Child | None:
    with suppress(KeyError):
        child, timer = _resting.popitem()
        timer.cancel()
        return child
    return None


def _end(child: _Child) -> None:
    child.process.kill()
    child.process.wait()
    if child.process.stdin is not None:
        with suppress(BrokenPipeError):
            child.process.stdin.close()
