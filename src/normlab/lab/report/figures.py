"""Every chart of the report, in the order of the page."""

import altair as alt
from altair.typing import ChartType

from normlab.lab.load import Results
from normlab.lab.report.activity import activity
from normlab.lab.report.curves import curves
from normlab.lab.report.distributions import distributions
from normlab.lab.report.figure import Figure
from normlab.lab.report.fits import fits
from normlab.lab.report.gap import gap
from normlab.lab.report.gradients import gradients
from normlab.lab.report.scores import scores
from normlab.lab.report.style import Spec
from normlab.lab.report.sweep import sweep_figure
from normlab.lab.summary import Summary, summarize
from normlab.lab.sweep import focus


def figures(results: Results, summary: Summary | None = None) -> tuple[Figure, ...]:
    """Charts with their captions; a figure without a chart says why.

    Of a sweep, the sweep itself, and the rest at the one value where its lines differ most.
    """
    summary = summary or summarize(results)
    along = None
    if summary.sweep is not None:
        along = sweep_figure(summary.sweep)
        results, _ = focus(results, summary.sweep)
        summary = summarize(results)
    found = (
        scores(summary, results.seeds),
        along,
        curves(results),
        fits(results),
        distributions(results),
        gradients(results),
        activity(results),
        gap(results),
    )
    return tuple(figure for figure in found if figure is not None)


def charts(results: Results) -> dict[str, ChartType]:
    """The Altair charts of a comparison by name, for a notebook; what cannot be drawn is left out."""
    found = {figure.name: figure.spec for figure in figures(results)}
    return {name: _altair(spec) for name, spec in found.items() if spec is not None}


def _altair(spec: Spec) -> ChartType:
    kinds: dict[str, type[ChartType]] = {
        "vconcat": alt.VConcatChart,
        "hconcat": alt.HConcatChart,
        "concat": alt.ConcatChart,
        "layer": alt.LayerChart,
    }
    kind = next(kind for key, kind in kinds.items() if key in spec)
    chart: ChartType = kind.from_dict(spec, validate=False)
    return chart
