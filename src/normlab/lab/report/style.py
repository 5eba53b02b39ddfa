"""How every chart looks: colours that colour-blind readers can tell apart, fonts, sizes, the page's width."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType

WIDTH = 1240  # px of a chart with its axes: fits a laptop screen of 1366
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif"
INK, MUTED, FAINT = "#1a1d21", "#5b6470", "#d9dde2"
# Okabe & Ito 2008, in a fixed order; their yellow is left out, it cannot be read on white
PALETTE = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ([1, 0], [8, 3], [2, 2])
# light to dark, even in lightness, from nothing to full: the empty cell is nearly the page
DENSITY = ("#f6f7f4", "#dbeeda", "#a8ddb5", "#6cc0b7", "#3a9cb8", "#23719f", "#254a84", "#1c2a5e")
# low, as it should be, high; told apart by colour-blind readers
DIVERGING = ("#2166ac", "#67a9cf", "#d1e5f0", "#f4f3ef", "#fddbc7", "#ef8a62", "#b2182b")
BAD = "#c1121f"

Rows = Sequence[Mapping[str, Any]]
Datasets = Mapping[str, Rows]
Spec = dict[str, Any]


def color(index: int) -> str:
    """The colour of the variant at that place; it comes again after seven, with another dash."""
    return PALETTE[index % len(PALETTE)]


def dash(index: int) -> list[int]:
    """The dash of the variant at that place."""
    return list(DASHES[index // len(PALETTE) % len(DASHES)])


def variant_legend(names: Sequence[str], width: int = WIDTH) -> alt.Legend:
    """The legend above a chart, in as many columns as long names leave room for."""
    longest = max((len(name) for name in names), default=1)
    columns = min(len(names), max(1, width // (36 + 7 * min(longest, 60))))
    return alt.Legend(
        orient="top",
        title=None,
        columns=columns,
        symbolType="stroke",
        symbolStrokeWidth=3,
        symbolSize=260,
        symbolOpacity=1,
        padding=10,
    )


def variant_color(names: Sequence[str]) -> alt.Color:
    """One colour a variant."""
    scale = alt.Scale(domain=list(names), range=[color(index) for index in range(len(names))])
    return alt.Color("variant:N", scale=scale, legend=variant_legend(names))


def variant_dash(names: Sequence[str]) -> alt.StrokeDash | alt.StrokeDashValue:
    """The dash that tells variants of the same colour apart; solid for all while the colours suffice."""
    if len(names) <= len(PALETTE):
        return alt.StrokeDashValue([1, 0])
    scale = alt.Scale(domain=list(names), range=[dash(index) for index in range(len(names))])
    return alt.StrokeDash("variant:N", scale=scale, legend=variant_legend(names))


def heading(variant: str, index: int, width: float) -> alt.TitleParams:
    """The name of a variant above its panel, in its colour; a long name takes several lines."""
    return alt.TitleParams(textwrap.wrap(variant, max(12, int(width / 7.2))), color=color(index))


def layer_heading(layer: str, width: float) -> alt.TitleParams:
    """The name of a layer above its panel; a long dotted name takes several lines, the last three that fit.

    Example:
        >>> layer_heading("3", 60).text, layer_heading("stage1.unit2.second", 60).text
        ('layer 3', ['stage1.', 'unit2.', 'second'])
    """
    if layer.isdigit():
        return alt.TitleParams(f"layer {layer}", anchor="middle")
    most = max(8, int(width / 7.5))
    lines = [""]
    for part in layer.replace(".", ". ").split():
        if lines[-1] and len(lines[-1]) + len(part) > most:
            lines.append("")
        lines[-1] += part if len(part) <= most else f"…{part[1 - most :]}"
    return alt.TitleParams(lines[-3:] if len(lines) > 1 else lines[0], anchor="middle")


def data(name: str) -> alt.NamedData:
    """The data set of that name; its rows are given once, to `finished`."""
    return alt.NamedData(name=name)


def finished(chart: ChartType, datasets: Datasets) -> Spec:
    """The chart as Vega-Lite, with its data and the common look."""
    # not validated here: that takes longer than everything else, and a test does it
    drawn: Spec = chart.to_dict(validate=False)
    return drawn | {"datasets": {name: list(rows) for name, rows in datasets.items()}, "config": CONFIG.to_dict()}


def without_data(chart: ChartType) -> Spec:
    """A part of a picture, made without data: it takes the data and the filter of what it is put into."""
    drawn: Spec = chart.to_dict(validate=False, context={"top_level": False})
    for part in (drawn, *drawn.get("layer", [])):
        part.pop("data", None)
    return drawn


CONFIG = alt.Config(
    font=FONT,
    background="#ffffff",
    padding=6,
    view=alt.ViewConfig(stroke=FAINT),
    axis=alt.AxisConfig(
        labelColor=MUTED,
        titleColor=INK,
        labelFontSize=11,
        titleFontSize=12,
        titleFontWeight="normal",
        domainColor="#aab2bc",
        tickColor="#aab2bc",
        gridColor="#eceff2",
        tickSize=4,
    ),
    axisQuantitative=alt.AxisConfig(labelFlush=True),
    title=alt.TitleConfig(
        color=INK,
        fontSize=13,
        fontWeight=600,
        subtitleColor=MUTED,
        subtitleFontSize=12,
        anchor="start",
        frame="group",
        offset=8,
    ),
    legend=alt.LegendConfig(
        labelColor=INK,
        titleColor=INK,
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
        labelLimit=420,
    ),
    header=alt.HeaderConfig(labelColor=INK, titleColor=INK),
)
