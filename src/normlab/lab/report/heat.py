"""The density heat strip of one layer of one variant: epochs to the right, values up, colour is density."""

from collections.abc import Sequence

import altair as alt
from altair.typing import ChartType

from normlab.lab.report import style
from normlab.lab.report.axes import epoch_axis, overlap
from normlab.lab.report.cells import cells, value_scale
from normlab.lab.report.rebin import CELLS

FULL = 0.25  # share of the values in one cell that takes the darkest colour


def heat_panel(column: int, epochs: Sequence[int], width: int, bottom: bool) -> ChartType:
    """The marks of a panel, without its data: cells, mean and deviation, what is not finite, the chosen epoch."""
    last = epochs[-1]
    step = epochs[1] - epochs[0] if len(epochs) > 1 else 1
    axis = epoch_axis(last, title="epoch" if bottom else None, most=4)
    axis.labels, axis.titleFontSize, axis.labelFontSize = bottom, 11, 10
    scale = alt.Scale(domain=[-0.5, last + 0.5], nice=False)
    at = alt.X("e:Q", scale=scale, axis=axis)
    value_axis = alt.Axis(
        tickCount=4, format=".6~g", grid=False, labelFontSize=10, titleFontSize=11, labelBound=True, minExtent=26
    )

    def value(field: str) -> alt.Y:
        return alt.Y(field, title="value" if column == 0 else None, scale=value_scale(column), axis=value_axis)

    panel = alt.Chart(alt.Undefined)
    heat = (
        cells(panel, column)
        .transform_filter("datum.share > 0")
        .transform_calculate(
            x0="datum.e - 0.5", x1=f"min({last}, datum.e + {step} - 1) + {0.5 + overlap(width, last + 1)}"
        )
        .mark_rect(clip=True)
        .encode(
            x=alt.X("x0:Q", scale=scale, axis=axis),
            x2="x1",
            y=value("y0:Q"),
            y2="y1",
            fill=_density(),
            tooltip=_tips(),
        )
    )
    known = panel.transform_filter("isValid(datum.a) && isValid(datum.b)")  # null would be drawn at 0
    mean = known.encode(x=at, y=value("a:Q"))
    moments = known.transform_calculate(high="datum.a + datum.b", low="datum.a - datum.b")
    spread = moments.transform_fold(["high", "low"], ["which", "moment"]).encode(
        x=at, y=value("moment:Q"), detail="which:N"
    )
    # no light outline: it would hide a strip that has collapsed to a line
    lines = [
        spread.mark_line(strokeWidth=0.9, strokeDash=[3, 2], color=style.INK, clip=True),
        mean.mark_line(strokeWidth=1.5, color=style.INK, clip=True),
    ]
    bad = (
        panel.transform_filter("datum.n > 0")
        .mark_text(text="×", color=style.BAD, fontSize=14, fontWeight="bold")
        .encode(x=at, y=alt.value(7), tooltip=[_EPOCH, alt.Tooltip("n:Q", title="values that are not finite")])
    )
    cursor = (
        panel.transform_filter("datum.e == at")
        .mark_rule(color=style.INK, strokeDash=[2, 2], strokeWidth=1)
        .encode(x=at)
    )
    return alt.layer(heat, *lines, bad, cursor, view=alt.ViewBackground(fill=style.DENSITY[0], stroke=None))


_EPOCH = alt.Tooltip("e:Q", title="epoch")


def _tips() -> list[alt.Tooltip]:
    return [
        _EPOCH,
        alt.Tooltip("y0:Q", title="from", format=".3~g"),
        alt.Tooltip("y1:Q", title="to", format=".3~g"),
        alt.Tooltip("share:Q", title="share of values", format=".2%"),
        alt.Tooltip("a:Q", title="mean", format=".3~g"),
        alt.Tooltip("b:Q", title="standard deviation", format=".3~g"),
        alt.Tooltip("u:Q", title="outside the axis", format=".2%"),
    ]


def _density() -> alt.Fill:
    """Colours even in the square root, so that a collapsed and a wide distribution are both readable."""
    steps = len(style.DENSITY) - 1
    stops = [FULL * (step / steps) ** 2 for step in range(steps + 1)]
    legend = alt.Legend(
        orient="top",
        direction="horizontal",
        title=f"density: share of the values in a cell (1/{CELLS} of the axis)",
        titleLimit=400,
        titleOrient="left",
        titlePadding=10,
        padding=10,
        gradientLength=220,
        gradientThickness=12,
        values=[0, 0.01, 0.05, 0.1, FULL],
        labelExpr=f"datum.value == {FULL} ? '≥ 25 %' : format(100 * datum.value, '.0f') + ' %'",
    )
    return alt.Fill(
        "share:Q", scale=alt.Scale(type="sqrt", domain=stops, range=list(style.DENSITY), clamp=True), legend=legend
    )
