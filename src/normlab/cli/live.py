"""News of the runs while they go: a live display in a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from normlab.lab import Progress as News
from normlab.lab import Results
from normlab.lab.compare import OnProgress
from normlab.lab.metric import Metric
from normlab.lab.record import ENDED

SHOWN = 24  # more runs than this: only those under way get a line of their own
MARKS = {"running": "", "done": "[green]✓[/]", "diverged": "[yellow]diverged[/]", "failed": "[red]failed[/]"}


@contextmanager
def progress_display(console: Console, results: Results) -> Iterator[OnProgress]:
    """Gives the function that takes the news of a run."""
    if console.is_terminal:
        with _live(console, results) as hear:
            yield hear
    else:
        yield _plain(console, results)


@contextmanager
def _live(console: Console, results: Results) -> Iterator[OnProgress]:
    left = [run for run in results.runs if run.status.state not in ENDED]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[value]}", justify="right"),
        TextColumn("{task.fields[mark]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as bars:
        few = len(left) <= SHOWN
        tasks: dict[str, TaskID] = {
            run.folder.name: bars.add_task(
                f"{run.variant} [dim]seed {run.config.seed}[/]",
                total=run.config.epochs,
                visible=few,
                start=False,
                value="",
                mark="",
            )
            for run in left
        }
        epochs = sum(run.config.epochs for run in left)
        whole = bars.add_task("[bold]all runs[/]", total=epochs, value="", mark="")
        done: dict[str, int] = {}

        def hear(news: News) -> None:
            task, status = tasks[news.run.folder], news.status
            ended = status.state != "running"
            bars.start_task(task)
            bars.update(
                task,
                completed=status.epoch,
                visible=few or not ended,
                mark=MARKS.get(status.state, ""),
                value=_value(results.metric, news.metric),
            )
            if ended:
                bars.stop_task(task)
            done[news.run.folder] = status.epochs if ended else status.epoch
            bars.update(whole, completed=sum(done.values()))

        yield hear


def _plain(console: Console, results: Results) -> OnProgress:
    total = sum(run.status.state not in ENDED for run in results.runs)
    began: list[float] = []  # at the first news: the start of the workers says nothing about the time of a run
    ended: set[str] = set()
    lock = threading.Lock()

    def hear(news: News) -> None:
        with lock:
            began.append(time.monotonic())
            if news.status.state == "running":
                return
            ended.add(news.run.folder)
            left = (began[-1] - began[0]) / len(ended) * (total - len(ended))
            console.print(
                f"{len(ended)}/{total}  {news.run.variant}, seed {news.run.config.seed}: {news.status.state}, "
                f"{results.metric.name} {_value(results.metric, news.metric)}, about {left:.0f} s left",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    return hear


def _value(metric: Metric, value: float | None) -> str:
    return "not finite" if value is None else metric.text(value)
