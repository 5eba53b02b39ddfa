"""All variants of one layer at one epoch, on one axis."""

import copy
import json
from collections.abc import Mapping, Sequence

import altair as alt

from normlab.lab.report import controls, style
from normlab.lab.report.cells import cells, value_scale
from normlab.lab.report.style import Spec


def overlay_panel(
    variants: Sequence[str], sources: Mapping[str, Spec], column: int, peaks: Mapping[str, float]
) -> Spec:
    """A line for each variant, the first one filled; `sources` gives the data of each."""
    fill, line = _marks(column, peaks)
    scale = {"domain": list(variants), "range": [style.color(index) for index in range(len(variants))]}
    legend = style.variant_legend(variants, 760).to_dict()
    layers = []
    for index, variant in enumerate(variants):
        if variant not in sources:
            continue
        drawn = copy.deepcopy(line)
        drawn["mark"]["strokeDash"] = style.dash(index)
        # JSON of a string is a string of Vega's expressions too, whatever the name holds
        drawn["transform"].append({"calculate": json.dumps(variant), "as": "variant"})
        drawn["encoding"]["stroke"] = {"field": "variant", "type": "nominal", "scale": scale, "legend": legend}
        marks = [drawn]
        if index == 0:
            marks.insert(0, fill | {"mark": fill["mark"] | {"color": style.color(index)}})
        layers.append(sources[variant] | {"layer": marks})
    return {"layer": layers}


def _marks(column: int, peaks: Mapping[str, float]) -> tuple[Spec, Spec]:
    x = alt.X(
        "x:Q",
        title="value",
        scale=value_scale(column),
        axis=alt.Axis(tickCount=3, format=".6~g", grid=False, titleFontSize=11, labelFontSize=10),
    )
    peak = controls.by_site({site: round(1.05 * value, 5) for site, value in peaks.items()})
    y = alt.Y(
        "density:Q",
        title="density (√ scale)" if column == 0 else None,
        scale=alt.Scale(type="sqrt", domain=alt.expr(f"[0, {peak} || 1]"), nice=False),
        axis=alt.Axis(tickCount=3, format=".6~g", labelFontSize=10, titleFontSize=11, labelBound=True, minExtent=26),
    )
    tips = [alt.Tooltip("x:Q", title="value", format=".3~g"), alt.Tooltip("density:Q", format=".3~g")]
    shape = (
        cells(alt.Chart(alt.Undefined).transform_filter("datum.e == at"), column)
        .transform_calculate(x="(datum.y0 + datum.y1) / 2", density="datum.share / (datum.y1 - datum.y0)")
        .encode(x=x, y=y)
    )
    fill = shape.mark_area(opacity=0.22, clip=True)
    line = shape.mark_line(strokeWidth=1.8, clip=True).encode(tooltip=tips)
    return style.without_data(fill), style.without_data(line)
