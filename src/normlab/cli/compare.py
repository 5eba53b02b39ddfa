"""`normlab compare`: run, show, report."""

import os
from importlib import metadata
from pathlib import Path

from rich.console import Console

from normlab import __version__, errors, lab
from normlab.cli.as_json import print_json
from normlab.cli.live import progress_display
from normlab.cli.table import show_summary
from normlab.cli.words import Own, recipe_of
from normlab.lab.mend import mend
from normlab.lab.prepare import prepare, said_of_swaps
from normlab.lab.summary import to_json
from normlab.tools.report import Report


def run_compare(
    words: list[str],
    out: Path,
    jobs: int,
    resume: Path | None,
    quick: bool,
    own: Own,
    as_json: bool,
    scheduler: str | None = None,
    timeout: float = 0,
) -> int:
    """Carries out a comparison; returns the exit code: 0, 1 if a run failed, 130 after Ctrl-C."""
    if resume is not None and (words or quick or own != Own()):
        got = " ".join([*words, *(["--quick"] if quick else []), *own.options()])
        problem = errors.Problem("--resume takes its settings from the folder.", got=got, fix="leave them out.")
        raise errors.UsageError(errors.message("compare", problem))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _together(words, out, resume, quick, own, as_json)
    console = Console(stderr=as_json)
    folder, swaps = _folder(words, out, resume, quick, own)
    try:
        before = mend(folder)
        _say_what(console, before, swaps)
        with progress_display(console, before) as on_progress:
            results = lab.resume(folder, jobs if scheduler else jobs or cores(), on_progress, scheduler, timeout)
    except KeyboardInterrupt:
        _say_how_to_go_on(Console(stderr=True), folder)
        return 130
    return _end(console, results, folder, as_json)


def _together(words: list[str], out: Path, resume: Path | None, quick: bool, own: Own, as_json: bool) -> int:
    """The same in each of the processes that `torchrun` started; the first one alone writes and speaks."""
    from normlab.lab.processes import connected
    from normlab.lab.together import resume_together

    with connected() as processes:
        if processes.rank:
            resume_together(Path(processes.told("")), processes, lambda progress: None)
            return 0
        console = Console(stderr=as_json)
        folder, swaps = _folder([*words, f"processes={processes.size}"], out, resume, quick, own)
        processes.told(str(folder.absolute()))
        before = lab.load(folder)
        _say_what(console, before, swaps)
        with progress_display(console, before) as on_progress:
            results = resume_together(folder, processes, on_progress)
        return _end(console, results, folder, as_json)


def _folder(words: list[str], out: Path, resume: Path | None, quick: bool, own: Own) -> tuple[Path, dict[str, Report]]:
    """The folder of the comparison, new or given, and which norms of the user's network are swapped."""
    if resume is not None:
        return resume, {}
    recipe, swaps = prepare(recipe_of(words, quick, own))
    return lab.create(recipe, out), swaps


def _end(console: Console, results: lab.Results, folder: Path, as_json: bool) -> int:
    """The table, the report, and where they are; the exit code."""
    summary = lab.summarize(results)
    if as_json:
        print_json(to_json(summary, str(folder)))
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


def cores() -> int:
    """Cores this process may use, which a container or `taskset` may have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say_what(console: Console, results: lab.Results, swaps: dict[str, Report]) -> None:
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
    for line in said_of_swaps(swaps):
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def _say_how_to_go_on(console: Console, folder: Path) -> None:
    runs = lab.load(folder).runs
    ended = sum(run.status.state in ("done", "diverged") for run in runs)
    console.print(f"Stopped. {ended} of {len(runs)} runs are finished and kept.", highlight=False)
    console.print(f"Go on with: normlab compare --resume {folder}", markup=False, highlight=False, soft_wrap=True)
