"""What every page has: one file that opens from disk with the network off, its styles and its scripts."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import vl_convert

from normlab.lab.report import html
from normlab.lab.report.figure import Figure
from normlab.lab.report.pngs import VEGA_LITE

# scripts and styles of the page itself and nothing else: the browser refuses every request
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


def whole_page(
    title: str, header: str, sections: Iterable[str], footer: str, data: Mapping[str, Any], look: str = ""
) -> str:
    """The page around its parts, which are markup already.

    Args:
        title: plain text, for the window.
        header: what stands on top.
        sections: see `section`.
        footer: what stands below.
        data: by id, what the scripts read; `specs` are the charts.
        look: styles beside those of every page.
    """
    scripts = "\n".join(
        f'<script type="application/json" id="{name}">{html.script_json(value)}</script>'
        for name, value in data.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="normlab">
<title>{html.text(title)} · normlab</title>
<link rel="icon" href="data:,">
<style>
{_asset("page.css")}{look}</style>
</head>
<body>
<main>
{header}
{"".join(sections)}
</main>
<footer>{footer}</footer>
{scripts}
<script>
{_bundle()}
</script>
<script>
{_asset("page.js")}</script>
</body>
</html>
"""


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


def _asset(name: str) -> str:
    """A style or script that lies beside this file."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return script.replace("</script", "<\\/script")
