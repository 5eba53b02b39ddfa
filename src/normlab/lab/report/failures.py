"""Runs that did not end well, and why: listed, never left out."""

from normlab.lab.load import Results, Run
from normlab.lab.report import html

MEANING = {
    "diverged": "training stopped at a loss that is not finite",
    "failed": "an error ended the run",
    "interrupted": "stopped before its end",
    "running": "not finished when this was drawn",
    "planned": "not begun",
}


def troubled(results: Results) -> list[Run]:
    """Every run that is not done."""
    return [run for run in results.runs if run.status.state != "done"]


def failures(results: Results) -> str:
    """A row for every run that is not done."""
    runs = troubled(results)
    if not runs:
        return "<p>None: every run ended as planned.</p>"
    rows = [
        [
            html.text(run.variant),
            str(run.config.seed),
            f'<span class="bad">{html.text(run.status.state)}</span>',
            f"{run.status.epoch} of {run.status.epochs}",
            html.text(run.status.reason or MEANING.get(run.status.state, "")),
        ]
        for run in runs
    ]
    return html.table(["Variant", "Seed", "State", "Epoch", "Reason"], rows, "failures")


def notice(results: Results) -> str:
    """One sentence for the top of the page; empty if nothing went wrong."""
    runs = troubled(results)
    if not runs:
        return ""
    states = {state: sum(run.status.state == state for run in runs) for state in MEANING}
    words = {"planned": "not begun", "running": "not finished"}
    said = ", ".join(f"{count} {words.get(state, state)}" for state, count in states.items() if count)
    return (
        f'<p class="notice">Of {len(results.runs)} runs: {said}. '
        f'Reasons are under <a href="#failures">what went wrong</a>.</p>'
    )
