"""The picture of the page: for each group the ratio of every shape, their mean, and the limit that memory sets."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

from benchmarks.performance.rows import WAYS, Measured, geometric_mean, grouped, known
from benchmarks.performance.targets import goal
from normlab.lab.report import style
from normlab.lab.report.pngs import VEGA_LITE

TITLE = "How many times faster than PyTorch's eager layers"
HEADINGS = {"forward": "forward in train mode", "both": "forward + backward"}
MARKS = ("a shape", "geometric mean", "memory limit, geometric mean", "target of the geometric mean")
SHAPES = ("circle", "M-0.14,-1H0.14V1H-0.14Z", "diamond", "triangle-left")
TICKS = (0.125, 0.25, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
WIDTH = 390


def svg(rows: Sequence[Measured], words: str) -> str:
    """The picture; `words` stand below its title."""
    drawn: str = vl_convert.vegalite_to_svg(spec(rows, words), vl_version=VEGA_LITE)
    return drawn


def spec(rows: Sequence[Measured], words: str) -> style.Spec:
    """Two panels, forward and both directions, that share their lines, one a group."""
    points = _points(rows)
    names = list(grouped(rows))
    values = [point["ratio"] for point in points]
    low, high = min(0.7, *values), max(1.4, *values)
    panels = [_panel(way, names, (low / 1.12, high * 1.12), first=way == WAYS[0]) for way in WAYS]
    chart = alt.hconcat(*panels, spacing=26, data=style.data("points"))
    title = {"text": TITLE, "subtitle": [words], "fontSize": 18, "offset": 16}
    return style.finished(chart, {"points": points}) | {"title": title}


def _panel(way: str, names: list[str], domain: tuple[float, float], *, first: bool) -> alt.LayerChart:
    axis = alt.Axis(labelLimit=480, labelFontSize=12, grid=True) if first else None
    y = alt.Y("group:N", sort=names, title=None, scale=alt.Scale(domain=names), axis=axis)
    ticks = [tick for tick in TICKS if domain[0] <= tick <= domain[1]]
    x = alt.X(
        "ratio:Q",
        title="time of eager ÷ time of ours (log scale)",
        scale=alt.Scale(type="log", domain=domain, nice=False),
        axis=alt.Axis(values=ticks, format="~g", labelFlush=False),
    )
    colors = alt.Scale(domain=list(MARKS), range=[style.color(1), style.color(0), style.MUTED, style.color(2)])
    color = alt.Color("mark:N", scale=colors, legend=alt.Legend(orient="top", title=None, symbolOpacity=1))
    shapes = alt.Scale(domain=list(MARKS), range=list(SHAPES))
    shape = alt.Shape("mark:N", scale=shapes)
    base = alt.Chart().transform_filter(f"datum.way === '{way}'")
    same = alt.Chart(alt.InlineData([{"ratio": 1}])).mark_rule(color=style.INK, strokeWidth=1).encode(x="ratio:Q")

    def only(mark: str) -> alt.Chart:
        return base.transform_filter(f"datum.mark === '{mark}'")

    dots = only(MARKS[0]).mark_point(filled=True, size=42, opacity=0.55).encode(x=x, y=y, color=color, shape=shape)
    limit = only(MARKS[2]).mark_point(size=70, strokeWidth=1.6, opacity=1).encode(x=x, y=y, color=color, shape=shape)
    target = only(MARKS[3]).mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=color, shape=shape)
    mean = only(MARKS[1]).mark_point(filled=True, size=260, opacity=1).encode(x=x, y=y, color=color, shape=shape)
    panel: alt.LayerChart = (same + dots + limit + target + mean).properties(
        width=WIDTH, height=alt.Step(24), title=HEADINGS[way]
    )
    return panel


def _points(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    found = []
    for name, group in grouped(rows).items():
        for way in WAYS:
            ratios = known(row.ratio(way) for row in group)
            marks: list[tuple[str, float | None]] = [(MARKS[0], value) for value in ratios]
            marks += [
                (MARKS[1], geometric_mean(ratios)),
                (MARKS[2], geometric_mean(known(r.limit(way) for r in group))),
            ]
            marks.append((MARKS[3], goal(group[0].case) if way == "both" else None))
            found += [
                {"group": name, "way": way, "mark": mark, "ratio": float(f"{value:.4g}")}
                for mark, value in marks
                if value is not None and math.isfinite(value)
            ]
    return found
