"""The table and the verdict, for a terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab.lab.metric import Metric
from normlab.lab.summary import Summary
from normlab.lab.sweep import Sweep
from normlab.lab.verdict import VariantSummary


def show_summary(console: Console, summary: Summary) -> None:
    """Prints one row a variant, or of a sweep one row a value, then the verdict and what it rests on."""
    console.print(_sweep_table(summary.sweep) if summary.sweep else _variant_table(summary))
    console.print(Text(summary.verdict), highlight=False)
    console.print(Text(summary.pairing), style="dim", highlight=False)
    console.print()


def _sweep_table(sweep: Sweep) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title=f"best test {sweep.metric.name}, mean over seeds", title_style="dim"
    )
    for title in (sweep.key, *sweep.lines):
        table.add_column(title, justify="right")
    cells = {(point.line, point.value): _mean(point.best_test, sweep.metric) for point in sweep.points}
    for value in sweep.values:
        table.add_row(f"{value:g}", *(cells.get((line, value), "–") for line in sweep.lines))
    return table


def _mean(values: Sequence[float | None], metric: Metric) -> str:
    known = [value for value in values if value is not None]
    return metric.text(sum(known) / len(known)) if known else "–"


def _variant_table(summary: Summary) -> Table:
    metric = summary.metric
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("variant", overflow="fold")
    reach = [f"epochs to\n{summary.target}"] if summary.target else []
    for title in (f"test\n{metric.name}", "95 %\ninterval", *reach, "time\na step"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    best = summary.best
    for row in summary.variants:
        table.add_row(*_cells(row, metric, bool(reach)), style="bold" if row.name == best else "")
    return table


def _cells(row: VariantSummary, metric: Metric, with_target: bool) -> tuple[str | Text, ...]:
    notes = [f"{row.diverged} diverged"] * bool(row.diverged) + [f"{row.unfinished} unfinished"] * bool(row.unfinished)
    return (
        Text(row.name),
        "–" if row.mean is None else metric.text(row.mean),
        "–" if row.low is None or row.high is None else metric.interval(row.low, row.high),
        *(["never" if row.epochs_to_target is None else f"{row.epochs_to_target:g}"] if with_target else []),
        "–" if row.step_seconds is None else f"{1e3 * row.step_seconds:.2f} ms",
        Text(", ".join(notes), style="yellow"),
    )
