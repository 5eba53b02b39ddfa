"""`normlab ls`: what has been compared, or the runs of one comparison."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab import lab
from normlab.lab.listing import Listed, listed
from normlab.lab.record import RECIPE


def run_ls(folder: Path, console: Console) -> None:
    """Prints a line a comparison, or a line a run if the folder is a comparison."""
    console.print(_runs(lab.load(folder)) if (folder / RECIPE).exists() else _comparisons(listed(folder), folder))


def ls_json(folder: Path) -> list[dict[str, Any]]:
    """The same as objects."""
    if (folder / RECIPE).exists():
        return [
            {"folder": str(run.folder), "variant": run.variant, "seed": run.config.seed} | vars(run.status)
            for run in lab.load(folder).runs
        ]
    return [vars(each) | {"folder": str(each.folder)} for each in listed(folder)]


def _comparisons(found: list[Listed], folder: Path) -> Table | Text:
    if not found:
        return Text(f"No comparison in {folder}; `normlab compare` makes one.")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("comparison", no_wrap=True)
    table.add_column("recipe", no_wrap=True)
    table.add_column("variants × seeds", justify="right", no_wrap=True)
    table.add_column("runs", overflow="fold")
    for each in found:
        size = f"{each.variants} × {each.seeds}" if each.states else ""
        good = set(each.states or {}) == {"done"}
        table.add_row(Text(each.folder.name), each.recipe, size, Text(each.text, style="" if good else "yellow"))
    return table


def _runs(results: lab.Results) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("epoch", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for run in results.runs:
        status = run.status
        bad = status.state not in ("done", "running", "planned")
        state = Text(status.state, style="yellow" if bad else "")
        table.add_row(Text(run.folder.name), f"{status.epoch} of {status.epochs}", state, Text(status.reason))
    return table
