"""`normlab claims`: run the recipes that the claims need, judge, show, write."""

from importlib import metadata
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab import __version__, errors, lab
from normlab.cli.as_json import print_json
from normlab.cli.compare import cores
from normlab.cli.live import progress_display
from normlab.lab.claims.data import to_json
from normlab.lab.claims.inquiry import Inquiry, begin, judged, opened
from normlab.lab.claims.selection import select
from normlab.lab.claims.words import counted
from normlab.lab.mend import mend
from normlab.lab.record import ENDED

STYLES = {"supported": "green", "not supported": "red", "undecided": "yellow"}


def run_claims(words: list[str], out: Path, jobs: int, resume: Path | None, quick: bool | None, as_json: bool) -> int:
    """Puts claims to the test; returns the exit code: 0, 1 if a run failed, 130 after Ctrl-C."""
    console = Console(stderr=as_json)
    if resume is None:
        names = [word for word in words if "=" not in word]
        settings = [word for word in words if "=" in word]
        folder = begin(select(names, settings, quick is not False), out)
    else:
        _refuse_settings(words, quick)
        folder = resume
    selection, places = opened(folder)
    count = f"{len(selection.claims)} claim{'s' if len(selection.claims) > 1 else ''}"
    size = "quick" if selection.quick else "full"
    console.print(f"normlab {__version__} · torch {metadata.version('torch')} · {count}, {size}", style="bold")
    try:
        comparisons = {
            name: _finished(console, place, f"{number}/{len(places)}", jobs)
            for number, (name, place) in enumerate(places.items(), start=1)
        }
    except KeyboardInterrupt:
        said = Console(stderr=True)
        said.print("Stopped. Every finished run is kept.", highlight=False)
        said.print(f"Go on with: normlab claims --resume {folder}", markup=False, highlight=False, soft_wrap=True)
        return 130
    inquiry = judged(folder, selection, comparisons)
    if as_json:
        print_json(to_json(inquiry))
    else:
        show_claims(console, inquiry)
    return _ending(console, inquiry)


def show_claims(console: Console, inquiry: Inquiry) -> None:
    """Prints one row a claim, then how many came to what."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("effect [95 % interval]; rule")
    for found in inquiry.judgements:
        claim = found.claim
        rule = f"supported if {claim.rule.short(claim.unit)}"
        said = Text(found.text())
        if found.reason and found.reason != claim.rule.across(claim.unit):  # which the two lines say already
            said.append(f"\n{found.reason}", style="yellow")
        said.append(f"\n{rule}\n", style="dim")
        table.add_row(Text(claim.name), Text(found.verdict, style=STYLES[found.verdict]), said)
    console.print(table)
    console.print(f"{counted(inquiry)}.\n", highlight=False)


def _refuse_settings(words: list[str], quick: bool | None) -> None:
    got = [*words, *([] if quick is None else ["--quick" if quick else "--full"])]
    if got:
        problem = errors.Problem(
            "--resume takes its settings from the folder.", got=" ".join(got), fix="leave them out."
        )
        raise errors.UsageError(errors.message("claims", problem))


def _finished(console: Console, folder: Path, place: str, jobs: int) -> lab.Results:
    """The comparison with all of its runs made, and its report drawn; what is finished already is left as it is."""
    before = mend(folder)
    left = sum(run.status.state not in ENDED for run in before.runs)
    said = f"{left} of {len(before.runs)} runs to make" if left else f"all {len(before.runs)} runs are there"
    console.print(f"{place}  {before.recipe.name}: {said}", highlight=False)
    results = before
    if left:
        with progress_display(console, before) as on_progress:
            results = lab.resume(folder, jobs or cores(), on_progress)
    report = folder / "report.html"
    if left or not report.exists():
        from normlab.lab.report import write_report  # altair takes half a second

        write_report(results, report)
    return results


def _ending(console: Console, inquiry: Inquiry) -> int:
    runs = [run for results in inquiry.comparisons.values() for run in results.runs]
    failed = [run for run in runs if run.status.state == "failed"]
    for run in failed:
        name = f"{run.folder.parent.name}/{run.folder.name}"
        console.print(f"failed  {name}: {run.status.reason}", style="red", markup=False, soft_wrap=True)
    if failed:
        console.print(f"go on   normlab claims --resume {inquiry.folder}", markup=False, soft_wrap=True)
    from normlab.lab.claims.write import write_claims

    for path in write_claims(inquiry):
        console.print(f"wrote   {path}", markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0
