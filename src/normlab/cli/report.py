"""`normlab report`: draw recorded runs again."""

from pathlib import Path

from rich.console import Console

from normlab import errors, lab
from normlab.cli.as_json import print_json
from normlab.cli.table import show_summary
from normlab.lab.record import RECIPE
from normlab.lab.report import write_pngs, write_report
from normlab.lab.summary import to_json


def run_report(folders: list[Path], out: Path | None, png: Path | None, as_json: bool) -> int:
    """Writes the report of a comparison, or of several runs side by side; returns the exit code."""
    comparison = len(folders) == 1 and (folders[0] / RECIPE).exists()
    results = lab.load(folders[0]) if comparison else lab.gather(folders)
    path = out or (folders[0] / "report.html" if comparison else Path("report.html"))
    # the report inside a comparison is only a drawing of its records; any other file may be somebody's work
    if path.exists() and not (comparison and out is None):
        problem = errors.Problem(f"{path} exists.", fix="choose another name with --out.")
        raise errors.UsageError(errors.message("report", problem))
    summary = lab.summarize(results)
    written = [write_report(results, path)]
    if png is not None:
        written += write_pngs(results, png)
    console = Console(stderr=as_json)
    if as_json:
        print_json(to_json(summary, str(folders[0])))
    else:
        show_summary(console, summary)
    for file in written:
        console.print(f"wrote  {file}", markup=False, highlight=False, soft_wrap=True)
    return 0
