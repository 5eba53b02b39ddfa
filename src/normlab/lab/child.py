"""A process that does runs, one after another, for the process that started it; see `children`.

Runs come as lines on stdin and news goes out as lines on stdout, each a JSON object. When stdin closes, whoever
wanted the runs is gone, and the process ends at once, in the middle of a run too: it must not go on writing records
that another process may be about to write again.
"""

import gc
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from normlab.lab.config import RunConfig
from normlab.lab.record import Status


def main() -> None:
    """Does runs until stdin closes."""
    news = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no news
    jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_take, args=(jobs,), daemon=True).start()
    with suppress(Exception):  # what is wrong with it is told by the first run, which loads it again
        _load()
    gc.freeze()
    gc.enable()
    while True:
        _do(jobs.get(), news)


def _load() -> None:
    """Loads what takes seconds before the first run begins: its time is its own."""
    import torch._dynamo  # noqa: F401 - every optimizer of torch loads it, which takes as long as torch itself

    import normlab.lab.train  # noqa: F401


def _take(jobs: "SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        jobs.put(json.loads(line))
    os._exit(0)


def _do(job: dict[str, Any], news: TextIO) -> None:
    def report(status: Status, metric: float | None) -> None:
        _say(news, status=vars(status), metric=metric)

    if Path(job["directory"]).is_dir():
        os.chdir(job["directory"])
    sys.path += [place for place in job["path"] if place not in sys.path]
    _say(news, begun=True)
    try:
        from normlab.lab.train import run

        run(RunConfig.from_toml(job["config"]), Path(job["folder"]), report)
    except OSError as error:
        _say(news, os_error=[error.errno, error.strerror, error.filename and str(error.filename)], text=str(error))
    except Exception as error:
        _say(news, error=f"{type(error).__name__}: {error}")
    else:
        _say(news, done=True)


def _say(news: TextIO, **what: Any) -> None:
    try:
        news.write(json.dumps(what) + "\n")
        news.flush()
    except BrokenPipeError:  # nobody listens any more
        os._exit(0)
