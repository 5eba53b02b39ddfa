"""The page: one file that opens from disk with the network off."""

from collections.abc import Sequence

from normlab.lab.load import Results
from normlab.lab.report import html
from normlab.lab.report.failures import failures, notice, troubled
from normlab.lab.report.figure import Figure
from normlab.lab.report.figures import figures
from normlab.lab.report.frame import drawn_figure, section, whole_page
from normlab.lab.report.reproduce import reproduce
from normlab.lab.report.results_table import results_table
from normlab.lab.report.settings import differing, everything, swapped
from normlab.lab.summary import Summary, summarize, to_json
from normlab.lab.sweep import focus

SHORT = {
    "sweep": "Sweep",
    "curves": "Curves",
    "fits": "Fits",
    "distributions": "Distributions",
    "gradients": "Gradients",
    "activity": "Saturation",
    "gap": "Running statistics",
    "settings": "Settings",
    "failures": "What went wrong",
    "reproduce": "How to reproduce",
}


def page(results: Results) -> str:
    """The whole report as HTML."""
    summary = summarize(results)
    scores, *drawn = figures(results, summary)
    sections = [section(figure.name, figure.title, drawn_figure(figure)) for figure in drawn]
    bad = len(troubled(results))
    sections += [
        section("settings", "Settings", _settings(results)),
        section("failures", f"What went wrong ({bad})" if bad else "What went wrong", failures(results)),
        section("reproduce", "How to reproduce", reproduce(results)),
    ]
    links = [*(figure.name for figure in drawn), "settings", "failures", "reproduce"]
    specs = {figure.name: figure.spec for figure in (scores, *drawn) if figure.spec is not None}
    footer = (
        f"Drawn by normlab from the records of {len(results.runs)} runs. Source of the comparison:\n"
        f"{html.text(results.recipe.source)}."
    )
    data = {"summary": to_json(summary, results.folder.name), "specs": specs}
    return whole_page(results.recipe.question, _top(results, summary, scores, links), sections, footer, data)


def _top(results: Results, summary: Summary, scores: Figure, links: Sequence[str]) -> str:
    shown, note = summary, ""
    if summary.sweep is not None:
        at, value = focus(results, summary.sweep)
        shown = summarize(at)
        where = f"{summary.sweep.key} = {value:g}, where the results differ most"
        note = f" The table, and every picture below the sweep, show {where}."
    items = "".join(f'<li><a href="#{name}">{html.text(SHORT[name])}</a></li>' for name in links)
    return f"""<header>
<p class="eyebrow">normlab compare · {html.text(results.recipe.name)}</p>
<h1>{html.text(results.recipe.question)}</h1>
<p class="{"verdict" if len(summary.verdict) < 400 else "verdict long"}">{html.text(summary.verdict)}</p>
{notice(results)}
<div class="results-row">
<div>{results_table(shown)}
<p class="caption">{html.text(summary.pairing + note)}</p></div>
{drawn_figure(scores)}
</div>
<noscript><p class="notice">The charts need JavaScript; nothing is loaded from a network.
<code>normlab report FOLDER --png DIR</code> draws the same charts as pictures.</p></noscript>
<nav aria-label="Sections"><ul>{items}</ul></nav>
</header>"""


def _settings(results: Results) -> str:
    return (
        f"<h3>What differs</h3>{differing(results)}"
        f"{_swapped(results)}"
        f"<details><summary>All settings</summary>{everything(results)}</details>"
    )


def _swapped(results: Results) -> str:
    table = swapped(results)
    return f"<details open><summary>Norms swapped in your network</summary>{table}</details>" if table else ""
