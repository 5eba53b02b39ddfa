"""The page: one file that opens from disk with the network off."""

import functools
from collections.abc import Sequence
from pathlib import Path

import vl_convert

from normlab.lab.load import Results
from normlab.lab.report import html
from normlab.lab.report.failures import failures, notice, troubled
from normlab.lab.report.figure import Figure
from normlab.lab.report.figures import figures
from normlab.lab.report.pngs import VEGA_LITE
from normlab.lab.report.reproduce import reproduce
from normlab.lab.report.results_table import results_table
from normlab.lab.report.settings import differing, everything, swapped
from normlab.lab.summary import Summary, summarize, to_json
from normlab.lab.sweep import focus

# scripts and styles of the page itself and nothing else: the browser refuses every request
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
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
    question = html.text(results.recipe.question)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="normlab">
<title>{question} · normlab</title>
<link rel="icon" href="data:,">
<style>
{asset("page.css")}</style>
</head>
<body>
<main>
{_top(results, summary, scores, links)}
{"".join(sections)}
</main>
<footer>Drawn by normlab from the records of {len(results.runs)} runs. Source of the comparison:
{html.text(results.recipe.source)}.</footer>
<script type="application/json" id="summary">{html.script_json(to_json(summary, results.folder.name))}</script>
<script type="application/json" id="specs">{html.script_json(specs)}</script>
<script>
{bundle()}
</script>
<script>
{asset("page.js")}</script>
</body>
</html>
"""


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


def section(name: str, title: str, body: str) -> str:
    """A part of the page with its heading."""
    return f'<section id="{name}">\n<h2>{html.text(title)}</h2>\n{body}\n</section>\n'


def drawn_figure(figure: Figure) -> str:
    """A place for a chart with its words, or the words why there is none."""
    if figure.spec is None:
        return f'<p class="empty">{html.text(" ".join(figure.caption))}</p>'
    words = "".join(f"<p>{html.text(paragraph)}</p>" for paragraph in figure.caption)
    return (
        f'<figure id="figure-{figure.name}">'
        f'<div class="controls" id="controls-{figure.name}"></div>'
        f'<div class="chart" id="chart-{figure.name}" role="img" aria-label="{html.text(figure.title)}"></div>'
        f'<figcaption class="caption">{words}</figcaption></figure>'
    )


def _settings(results: Results) -> str:
    return (
        f"<h3>What differs</h3>{differing(results)}"
        f"{_swapped(results)}"
        f"<details><summary>All settings</summary>{everything(results)}</details>"
    )


def _swapped(results: Results) -> str:
    table = swapped(results)
    return f"<details open><summary>Norms swapped in your network</summary>{table}</details>" if table else ""


def asset(name: str) -> str:
    """A style or script that lies beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@functools.cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return script.replace("</script", "<\\/script")
