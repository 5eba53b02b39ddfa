"""The result at a glance: one dot a seed, the mean and its 95 % interval."""

from collections.abc import Sequence

import altair as alt

from normlab.lab.metric import Metric
from normlab.lab.report import style
from normlab.lab.report.axes import log_axis
from normlab.lab.report.figure import Figure
from normlab.lab.summary import Summary

TITLE = "Results by seed"


def scores(summary: Summary, seeds: Sequence[int]) -> Figure:
    """Every final value beside the mean of its variant."""
    names = [row.name for row in summary.variants]
    dots = [
        {"variant": row.name, "value": value, "seed": seeds[index]}
        for row in summary.variants
        for index, value in enumerate(row.values)
        if value is not None
    ]
    if not dots:
        return Figure("scores", TITLE, None, [f"No run has ended with a test {summary.metric.name} yet."])
    means = [
        {"variant": row.name, "mean": row.mean, "low": row.low, "high": row.high}
        for row in summary.variants
        if row.mean is not None
    ]
    x = _axis(summary.metric, [value for row in summary.variants for value in row.values if value is not None])
    y = alt.Y(
        "variant:N",
        sort=names,
        title=None,
        scale=alt.Scale(domain=names),
        axis=alt.Axis(labelLimit=250, labelFontSize=12, grid=True),
    )
    color = alt.Color(
        "variant:N",
        scale=alt.Scale(domain=names, range=[style.color(index) for index in range(len(names))]),
        legend=None,
    )
    shown = summary.metric
    interval = (
        alt.Chart(style.data("means"))
        .transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=8, opacity=0.28, clip=True)
        .encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=color)
    )
    mean = (
        alt.Chart(style.data("means"))
        .mark_tick(thickness=3, size=18, opacity=1, clip=True)
        .encode(
            x="mean:Q",
            y=y,
            color=color,
            tooltip=["variant:N", _tip("mean", shown), _tip("low", shown), _tip("high", shown)],
        )
    )
    points = (
        alt.Chart(style.data("dots"))
        .mark_circle(size=42, opacity=1, stroke="#ffffff", strokeWidth=0.8, clip=True)
        .encode(x=x, y=y, color=color, tooltip=["variant:N", "seed:O", _tip("value", shown)])
    )
    width = 300 if max(map(len, names)) <= 16 else 170
    chart = (interval + mean + points).properties(width=width, height=alt.Step(30))
    caption = ["Dots: one a seed. Tick: mean. Bar: its 95 % interval."]
    if any(row.low is None for row in summary.variants if row.mean is not None):
        caption.append("One value gives no interval.")
    return Figure("scores", TITLE, style.finished(chart, {"dots": dots, "means": means}), caption)


def _axis(metric: Metric, values: list[float]) -> alt.X:
    log = log_axis(values)
    axis = alt.Axis(format=".0%" if metric.percent else ".6~s", tickCount=5, titleFontSize=11)
    if metric.percent:
        scale = alt.Scale(domain=[0, 1])
    elif log:
        scale = alt.Scale(type="log", nice=False, padding=8)
    else:
        scale = alt.Scale(zero=True, nice=True)
    logarithmic = " (log scale)" if log and not metric.percent else ""
    return alt.X("value:Q", title=f"test {metric.name}{logarithmic}", axis=axis, scale=scale)


def _tip(field: str, metric: Metric) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", format=".1%" if metric.percent else ".4g")
