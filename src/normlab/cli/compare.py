"""`normlab compare`: run, show, report."""

import json
import os
import sys
from importlib import metadata
from pathlib import Path

from rich.console import Console

from normlab import __version__, errors, lab
from normlab.cli.live import progress_display
from normlab.cli.table import show_summary
from normlab.lab.summary import to_json


def run_compare(words: list[str], out: Path, jobs: int, resume: Path | None, quick: bool, as_json: bool) -> int:
    """Carries out a comparison; returns the exit code: 0, 1 if a run failed, 130 after Ctrl-C."""
    if resume is not None and (words or quick):
        got = " ".join([*words, *(["--quick"] if quick else [])])
        problem = errors.Problem("--resume takes its settings from the folder.", got=got, fix="leave them out.")
        raise errors.UsageError(errors.message("compare", problem))
    console = Console(stderr=as_json)
    folder = resume if resume is not None else lab.create(_recipe(words, quick), out)
    before = lab.load(folder)
    _say_what(console, before, folder)
    try:
        with progress_display(console, before) as on_progress:
            results = lab.resume(folder, jobs or _cores(), on_progress)
    except KeyboardInterrupt:
        _say_how_to_go_on(Console(stderr=True), folder)
        return 130
    summary = lab.summarize(results)
    if as_json:
        sys.stdout.write(json.dumps(to_json(summary, str(folder)), indent=1, allow_nan=False) + "\n")
    else:
        show_summary(console, summary)
    failed = [run for run in results.runs if run.status.state == "failed"]
    for run in failed:
        console.print(f"failed   {run.folder.name}: {run.status.reason}", style="red", markup=False, soft_wrap=True)
    if failed:
        console.print(f"go on    normlab compare --resume {folder}", markup=False, soft_wrap=True)
    console.print(f"records  {folder}", markup=False, highlight=False, soft_wrap=True)
    from normlab.lab.report import write_report  # altair takes half a second

    path = write_report(results, folder / "report.html")
    console.print(f"report   {path}", markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _cores() -> int:
    """Cores this process may use, which a container or `taskset` may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _recipe(words: list[str], quick: bool) -> lab.Recipe:
    from normlab.lab.recipes import DEFAULT

    name = words[0] if words and "=" not in words[0] else DEFAULT
    settings = words[1:] if words and "=" not in words[0] else words
    recipe = lab.recipe_named(name)
    return lab.with_words(recipe, [*(recipe.quick if quick else ()), *settings])


def _say_what(console: Console, results: lab.Results, folder: Path) -> None:
    recipe = results.recipe
    console.print(
        f"normlab {__version__} · torch {metadata.version('torch')} · {recipe.name}",
        style="bold",
        highlight=False,
    )
    console.print(recipe.question, markup=False, highlight=False)
    sizes = ((len(results.variants), "variant"), (recipe.seeds, "seed"), (recipe.base.epochs, "epoch"))
    size = " × ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in sizes)
    console.print(
        f"{size} on {recipe.base.data}\n",
        style="dim",
        markup=False,
        highlight=False,
    )


def _say_how_to_go_on(console: Console, folder: Path) -> None:
    runs = lab.load(folder).runs
    ended = sum(run.status.state in ("done", "diverged") for run in runs)
    console.print(f"Stopped. {ended} of {len(runs)} runs are finished and kept.", highlight=False)
    console.print(f"Go on with: normlab compare --resume {folder}", markup=False, highlight=False, soft_wrap=True)
