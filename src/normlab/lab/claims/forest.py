"""The forest plot: the effect of each claim with its interval, against the threshold of its rule."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.typing import ChartType

from normlab.lab.claims.inquiry import Inquiry
from normlab.lab.claims.judge import Judgement
from normlab.lab.claims.unit import Unit
from normlab.lab.report import style
from normlab.lab.report.figure import Figure

TITLE = "Effects against their thresholds"
VERDICTS = ("supported", "not supported", "undecided")
COLORS = (style.PALETTE[1], style.PALETTE[0], style.MUTED)
SHAPES = ("circle", "cross", "diamond")
NAMES, VERDICT, ROW = 250, 110, 30  # px: of the names on the left, of the verdicts on the right, of one claim
CAPTION = (
    "Shaded: where the whole interval must lie for the claim to be supported. Thick bar: 95 % interval over seeds. "
    "Mark: mean; a circle is supported, a cross not supported, a diamond undecided. Small dots: one a seed. "
    "Each unit has its own axis.",
)


def forest(inquiry: Inquiry) -> Figure:
    """One panel a unit, one row a claim."""
    shown = [found for found in inquiry.judgements if found.effect is not None]
    if not shown:
        return Figure("forest", TITLE, None, ["No claim has an effect yet: no seed has finished its runs."])
    panels, rows, dots = [], [], []
    for unit in dict.fromkeys(found.claim.unit for found in shown):
        of_unit = [found for found in shown if found.claim.unit == unit]
        ends = _ends(of_unit)
        rows += [_row(found, ends) for found in of_unit]
        dots += [
            {"claim": found.claim.name, "unit": unit.many, "value": value, "seed": seed}
            for found in of_unit
            for seed, value in zip(found.seeds, found.values, strict=True)
            if value is not None
        ]
        panels.append(_panel(unit, [found.claim.name for found in of_unit], ends))
    chart = alt.vconcat(*panels, spacing=22)
    return Figure("forest", TITLE, style.finished(chart, {"rows": rows, "dots": dots}), CAPTION)


def _ends(found: Sequence[Judgement]) -> tuple[float, float]:
    """Of the axis: everything that is drawn in the panel, and zero, with a margin."""
    values = [0.0]
    for each in found:
        rule, effect = each.claim.rule, each.effect
        values += [rule.threshold, *([-rule.threshold] if rule.kind == "within" else [])]
        values += [value for value in each.values if value is not None]
        values += [end for end in (effect.low, effect.high) if end is not None] if effect else []
    margin = 0.06 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


def _row(found: Judgement, ends: tuple[float, float]) -> dict[str, Any]:
    claim, effect = found.claim, found.effect
    limit = claim.rule.threshold
    band = {"above": (limit, ends[1]), "below": (ends[0], limit), "within": (-limit, limit)}[claim.rule.kind]
    return {
        "claim": claim.name,
        "unit": claim.unit.many,
        "verdict": found.verdict,
        "effect": found.text(),
        "rule": claim.rule.short(claim.unit),
        "mean": effect.mean if effect else math.nan,
        "low": effect.low if effect else None,
        "high": effect.high if effect else None,
        "from": band[0],
        "to": band[1],
    }


def _panel(unit: Unit, names: Sequence[str], ends: tuple[float, float]) -> ChartType:
    this = f"datum.unit === '{unit.many}'"
    rows = alt.Chart(style.data("rows")).transform_filter(this)
    dots = alt.Chart(style.data("dots")).transform_filter(this)
    axis = alt.Axis(grid=True, tickCount=8)
    x = alt.X("mean:Q", title=_title(unit), scale=alt.Scale(domain=list(ends), nice=False), axis=axis)
    y = alt.Y(
        "claim:N",
        sort=list(names),
        title=None,
        scale=alt.Scale(domain=list(names)),
        axis=alt.Axis(labelLimit=NAMES, labelFontSize=12, minExtent=NAMES, maxExtent=NAMES, ticks=False, domain=False),
    )
    color = alt.Color("verdict:N", scale=alt.Scale(domain=list(VERDICTS), range=list(COLORS)), legend=None)
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=list(VERDICTS), range=list(SHAPES)), legend=None)
    tips = ["claim:N", "verdict:N", "effect:N", "rule:N"]
    band = rows.mark_bar(color="#e3f0e6", height=ROW - 6).encode(x=alt.X("from:Q"), x2="to:Q", y=y)
    zero = rows.mark_rule(color="#8b949e").encode(x=alt.datum(0))
    interval = (
        rows.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=7, opacity=0.32)
        .encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=color)
    )
    seeds = dots.mark_circle(size=22, color=style.INK, opacity=0.55).encode(
        x="value:Q", y=y, tooltip=["claim:N", "seed:O", alt.Tooltip("value:Q", format=".4g")]
    )
    mean = rows.mark_point(filled=True, size=95, opacity=1, stroke="#ffffff", strokeWidth=1).encode(
        x=x, y=y, color=color, shape=shape, tooltip=tips
    )
    width = style.WIDTH - NAMES - VERDICT - 90
    said = rows.mark_text(align="left", fontSize=12, dx=10).encode(
        x=alt.value(width), y=y, text="verdict:N", color=color, tooltip=tips
    )
    panel: ChartType = (band + zero + interval + seeds + mean + said).properties(width=width, height=alt.Step(ROW))
    return panel


def _title(unit: Unit) -> str:
    return f"effect ({unit.many or 'without a unit'})"
