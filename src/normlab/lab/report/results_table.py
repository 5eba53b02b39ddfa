"""The table on top: what every variant came to."""

from normlab.lab.metric import Metric
from normlab.lab.report import html, style
from normlab.lab.summary import Summary
from normlab.lab.verdict import VariantSummary

NONE = '<span class="none">–</span>'


def results_table(summary: Summary) -> str:
    """Variant, metric with its interval, epochs to the target, time a step, and how the runs ended."""
    metric, target = summary.metric, summary.target
    arrow = "higher is better" if metric.goal == "max" else "lower is better"
    head = [
        "Variant",
        f"Test {html.text(metric.name)} <small>mean, 95 % interval; {arrow}</small>",
        *([f"Epochs to {html.text(target)} <small>median</small>"] if target else []),
        "Time a step <small>median</small>",
        "Runs",
    ]
    best = summary.best
    rows = [
        [
            f'<span class="swatch" style="background:{style.color(index)}"></span>{html.text(row.name)}',
            _estimate(row, metric, row.name == best and len(summary.variants) > 1),
            *([NONE if row.epochs_to_target is None else f"{row.epochs_to_target:g}"] if target else []),
            duration(row.step_seconds),
            _endings(row),
        ]
        for index, row in enumerate(summary.variants)
    ]
    return html.table(head, rows, "results")


def duration(seconds: float | None) -> str:
    """A time with its unit.

    Example:
        >>> duration(0.00213), duration(2.5)
        ('2.1 ms', '2.5 s')
    """
    if seconds is None:
        return NONE
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}" if seconds / size < 100 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 1e-6:.0f} µs"


def _estimate(row: VariantSummary, metric: Metric, best: bool) -> str:
    if row.mean is None:
        return NONE
    mean = html.text(metric.text(row.mean))
    mean = f"<strong>{mean}</strong>" if best else mean
    if row.low is None or row.high is None:
        return f'{mean} <span class="interval">one value, no interval</span>'
    low, high = html.text(metric.text(row.low)), html.text(metric.text(row.high))
    return f'{mean} <span class="interval">{low} to {high}</span>'


def _endings(row: VariantSummary) -> str:
    total = len(row.values)
    finished = total - row.diverged - row.unfinished
    said = [f"{finished} of {total} done"]
    if row.diverged:
        said.append(f'<span class="bad">{row.diverged} diverged</span>')
    if row.unfinished:
        said.append(f'<span class="bad">{row.unfinished} unfinished</span>')
    return ", ".join(said)
