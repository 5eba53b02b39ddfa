"""A sweep at a glance: what each line reaches at each value of the swept setting."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType

from normlab.lab.metric import Metric
from normlab.lab.report import style
from normlab.lab.report.axes import log_axis, log_ticks
from normlab.lab.report.figure import Figure
from normlab.lab.sweep import Point, Sweep

TITLE = "Along the sweep"


def sweep_figure(sweep: Sweep) -> Figure:
    """Best test metric, best training metric and final training loss against the swept setting."""
    metric = sweep.metric
    panels = [("best_test", f"Best test {metric.name}"), ("best_train", f"Best training {metric.name}")]
    panels.append(("final_loss", "Final training loss"))
    rows = {field: _rows(sweep.points, field) for field, _ in panels}
    if not any(rows.values()):
        return Figure("sweep", TITLE, None, ["No run of the sweep has ended yet."])
    width = (style.WIDTH - 90 * len(panels)) // len(panels)
    charts = [_panel(sweep, field, title, rows[field], width, metric) for field, title in panels]
    chart = alt.hconcat(*charts, spacing=28).resolve_scale(color="shared")
    caption = [
        "Line: the mean over seeds. Band: from the lowest to the highest seed. A point that is missing has no seed "
        f"with a finite value. Dotted: the target, {metric.text(sweep.target)}."
    ]
    return Figure("sweep", TITLE, style.finished(chart, rows | {"target": [{"target": sweep.target}]}), caption)


def _rows(points: Sequence[Point], field: str) -> list[dict[str, Any]]:
    rows = []
    for point in points:
        known = [value for value in getattr(point, field) if value is not None and math.isfinite(value)]
        if known:
            mean = sum(known) / len(known)
            rows.append(
                {"variant": point.line, "value": point.value, "mean": mean, "low": min(known), "high": max(known)}
            )
    return rows


def _panel(
    sweep: Sweep, field: str, title: str, rows: Sequence[dict[str, Any]], width: int, metric: Metric
) -> ChartType:
    loss = field == "final_loss"
    percent = metric.percent and not loss
    tall = log_axis(value for row in rows for value in (row["low"], row["high"])) and not percent
    y_scale = alt.Scale(domain=[0, 1]) if percent else alt.Scale(type="log" if tall else "linear", nice=not tall)
    y_title = ("loss" if loss else metric.name) + (" (log scale)" if tall else "")
    y_axis = alt.Axis(title=y_title, format=".0%" if percent else ".4~g", tickCount=5)
    wide = log_axis(sweep.values)
    x = alt.X(
        "value:Q",
        scale=alt.Scale(type="log" if wide else "linear", domain=[min(sweep.values), max(sweep.values)], nice=False),
        axis=alt.Axis(
            title=f"{sweep.key} (log scale)" if wide else sweep.key,
            values=log_ticks(sweep.values) if wide else alt.Undefined,
            format=".4~g",
            grid=False,
        ),
    )
    color = style.variant_color(sweep.lines)
    base = alt.Chart(style.data(field))
    band = base.mark_area(opacity=0.16).encode(
        x=x, y=alt.Y("low:Q", scale=y_scale, axis=y_axis), y2="high:Q", color=color
    )
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=26)).encode(
        x=x,
        y=alt.Y("mean:Q", scale=y_scale, axis=y_axis),
        color=color,
        tooltip=["variant:N", alt.Tooltip("value:Q", title=sweep.key), "mean:Q", "low:Q", "high:Q"],
    )
    layers = [band, line]
    if not loss:
        layers.append(
            alt.Chart(style.data("target")).mark_rule(strokeDash=[2, 3], color=style.MUTED).encode(y="target:Q")
        )
    drawn: ChartType = alt.layer(*layers).properties(width=width, height=250, title=title)
    return drawn
