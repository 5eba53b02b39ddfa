"""Loss and metric over epochs: the mean of the seeds, and the band from the lowest to the highest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from altair.typing import ChartType

from normlab.lab.load import Results, Run
from normlab.lab.metric import METRICS
from normlab.lab.report import style
from normlab.lab.report.axes import epoch_axis, log_axis, log_ticks
from normlab.lab.report.figure import Figure
from normlab.lab.report.recorded import last_epoch, lines
from normlab.lab.report.strips import moded

TITLE = "Learning curves"


@dataclass(frozen=True)
class Panel:
    """One quantity: where it stands in a line of `metrics.jsonl`, and the mode that is drawn solid."""

    name: str
    title: str
    what: str
    of: str
    mode: str
    percent: bool = False


def curves(results: Results) -> Figure:
    """Training loss, test loss and the metric, side by side."""
    names = results.variants
    panels = _panels(results)
    rows = {panel.name: _rows(results, panel) for panel in panels}
    if not any(rows.values()):
        return Figure("curves", TITLE, None, ["No run has been measured yet."])
    ends = {f"{panel.name}_ends": _ends(results, panel) for panel in panels}
    width = (style.WIDTH - 80 * len(panels)) // len(panels)
    charts = [_draw(results, panel, rows[panel.name], ends[f"{panel.name}_ends"], width) for panel in panels]
    chart = alt.hconcat(*charts, spacing=28).resolve_scale(color="shared", strokeDash="shared")
    return Figure("curves", TITLE, style.finished(chart, rows | ends), _caption(results, names, any(ends.values())))


def _panels(results: Results) -> list[Panel]:
    probe = results.recipe.base.probe
    panels = [
        Panel("training_loss", f"Training loss ({probe} samples)", "loss", "train", "train"),
        Panel("test_loss", "Test loss", "loss", "test", "eval"),
    ]
    if results.metric.name == METRICS["regression"].name and not results.recipe.base.loss:  # the metric is the loss
        return panels
    metric = results.metric
    return [*panels, Panel("metric", f"Test {metric.name}", "metric", "test", "eval", metric.percent)]


def _draw(
    results: Results, panel: Panel, rows: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]], width: int
) -> ChartType:
    names = results.variants
    last = last_epoch(results)
    values = [row[key] for row in rows for key in ("low", "high")]
    log = log_axis(values)
    scale = alt.Scale(type="log", nice=False, padding=6) if log else alt.Scale(zero=True, nice=True)
    if panel.percent:
        scale = alt.Scale(domain=[0, 1])
    axis = alt.Axis(
        title=f"{results.metric.name if panel.what == 'metric' else panel.what}{' (log scale)' if log else ''}",
        format=".0%" if panel.percent else ".6~g",
        tickCount=5,
        values=log_ticks(values) if log else alt.Undefined,
        labelBound=True,
    )
    x = alt.X("epoch:Q", axis=epoch_axis(last, most=9), scale=alt.Scale(domain=[0, max(last, 1)], nice=False))
    color, dash = style.variant_color(names), style.variant_dash(names)
    usual = f"datum.mode == '{panel.mode}'"
    base = alt.Chart(style.data(panel.name))
    band = (
        base.transform_filter(usual)
        .mark_area(opacity=0.16)
        .encode(x=x, y=alt.Y("low:Q", axis=axis, scale=scale), y2="high:Q", color=color)
    )
    line = base.transform_filter(usual).mark_line(strokeWidth=2).encode(x=x, y="mean:Q", color=color, strokeDash=dash)
    other = (
        base.transform_filter(f"!({usual})")
        .mark_line(strokeWidth=1.4, strokeDash=[3, 3], opacity=0.9)
        .encode(x=x, y="mean:Q", color=color)
    )
    form = ".1%" if panel.percent else ".4g"
    tips = [
        alt.Tooltip("variant:N"),
        alt.Tooltip("epoch:Q"),
        alt.Tooltip("mode:N"),
        alt.Tooltip("mean:Q", format=form),
        alt.Tooltip("low:Q", title="lowest seed", format=form),
        alt.Tooltip("high:Q", title="highest seed", format=form),
        alt.Tooltip("seeds:Q"),
    ]
    hover = base.mark_point(size=90, opacity=0).encode(x=x, y="mean:Q", tooltip=tips)
    layers = [band, line, hover]
    if any(row["mode"] != panel.mode for row in rows):
        layers.insert(1, other)
    if ends:
        crosses = alt.Chart(style.data(f"{panel.name}_ends")).mark_point(
            shape="cross", angle=45, size=110, strokeWidth=0.6, filled=True, opacity=1, stroke="#ffffff"
        )
        tip = ["variant:N", "seed:O", alt.Tooltip("epoch:Q", title="diverged after epoch")]
        layers.append(crosses.encode(x=x, y="value:Q", color=color, tooltip=tip))
    return alt.layer(*layers, title=panel.title, width=width, height=250)


def _rows(results: Results, panel: Panel) -> list[dict[str, Any]]:
    rows = []
    for variant in results.variants:
        runs = results.of(variant)
        # the modes differ by running statistics alone; on the test set the recorded samples would differ as well
        both = panel.of == "train" and moded(results, variant)
        modes = ["train", "eval"] if both else [panel.mode]
        for mode in modes:
            seen: dict[int, list[float]] = {}
            for run in runs:
                for epoch, value in _values(run, panel, mode):
                    seen.setdefault(epoch, []).append(value)
            rows += [
                {
                    "variant": variant,
                    "mode": mode,
                    "epoch": epoch,
                    "mean": math.fsum(values) / len(values),
                    "low": min(values),
                    "high": max(values),
                    "seeds": len(values),
                }
                for epoch, values in sorted(seen.items())
            ]
    return rows


def _values(run: Run, panel: Panel, mode: str) -> list[tuple[int, float]]:
    """The finite values of one run, by epoch."""
    found = [(line["epoch"], line[panel.what][panel.of][mode]) for line in lines(run)]
    return [(epoch, value) for epoch, value in found if value is not None]


def _ends(results: Results, panel: Panel) -> list[dict[str, Any]]:
    """The last finite value of every run that diverged."""
    rows = []
    for run in results.runs:
        values = _values(run, panel, panel.mode)
        if run.status.state == "diverged" and values:
            epoch, value = values[-1]
            rows.append({"variant": run.variant, "seed": run.config.seed, "epoch": epoch, "value": value})
    return rows


def _caption(results: Results, names: Sequence[str], diverged: bool) -> list[str]:
    probe = results.recipe.base.probe
    seeds = max((len(results.of(name)) for name in names), default=0)
    band = (
        "Line: the mean over seeds. Band: from the lowest to the highest seed." if seeds > 1 else "One seed: no band."
    )
    text = [f"{band} Epoch 0 is before training."]
    if any(run.config.norm == "batch" for run in results.runs):
        text.append(
            f"Training loss, on {probe} fixed samples: solid in train mode; for batch norm also dashed, the same "
            f"samples in eval mode. Test values are in eval mode: at epoch 0 the running statistics of batch norm are "
            f"untouched (mean 0, variance 1), so it starts like a net without norm."
        )
    if diverged:
        text.append("×: the last finite value of a run that diverged; from there on the mean is over the seeds left.")
    return text
