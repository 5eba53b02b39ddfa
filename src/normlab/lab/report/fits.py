"""Of a regression: the fitted curve of every run over the data, at one epoch."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from altair.typing import ChartType

from normlab.lab.load import Results
from normlab.lab.report import controls, style
from normlab.lab.report.figure import Figure
from normlab.lab.report.recorded import evenly_spaced, last_epoch, lines, shown_epochs

TITLE = "Fitted curves"
MOST_NUMBERS = 120_000  # predictions in the page, half a megabyte


def fits(results: Results) -> Figure | None:
    """Test data as dots, one thin line a seed, their mean bold; None if the task is not a regression."""
    if results.recipe.base.data != "curve":
        return None
    if not any("prediction" in line for run in results.runs for line in lines(run)):
        return Figure("fits", TITLE, None, ["No run has been measured yet."])
    from normlab.lab.data.curve import curve

    data = curve(results.recipe.base.data_seed)
    x, y = data.x_test[:, 0], data.y_test[:, 0]
    epochs = shown_epochs(last_epoch(results), 60)
    numbers = len(results.runs) * len(epochs) * len(x)
    kept = evenly_spaced(range(len(x)), max(20, len(x) * MOST_NUMBERS // max(numbers, MOST_NUMBERS)))
    datasets: dict[str, list[dict[str, Any]]] = {
        "points": [{"x": round(float(a), 3), "y": round(float(b), 2)} for a, b in zip(x, y, strict=True)]
    }
    for index, variant in enumerate(results.variants):
        datasets[f"fit{index}"] = _rows(results, variant, epochs, kept)
    columns = min(3, len(results.variants))
    width = (style.WIDTH - 60 * columns) // columns
    room = 0.08 * float(np.ptp(y))
    limits = [float(y.min()) - room, float(y.max()) + room]
    panels = [
        _draw(index, variant, limits, width, index % columns == 0) for index, variant in enumerate(results.variants)
    ]
    xs = alt.param(name="xs", value=[round(float(x[index]), 3) for index in kept])
    chart = alt.concat(*panels, columns=columns, spacing=24).add_params(*controls.epoch(epochs), xs)
    caption = ["Dots: the test data. Thin lines: one a seed, in eval mode. Bold line: their mean."]
    if len(kept) < len(x):
        caption.append(f"Lines are drawn through {len(kept)} of the {len(x)} test points.")
    return Figure("fits", TITLE, style.finished(chart, datasets), caption, f"Epoch {epochs[-1]}.")


def _rows(results: Results, variant: str, epochs: Sequence[int], kept: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"e": line["epoch"], "seed": run.config.seed, "p": [_short(line["prediction"][index]) for index in kept]}
        for run in results.of(variant)
        for line in lines(run)
        if line["epoch"] in epochs and "prediction" in line
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _draw(index: int, variant: str, limits: list[float], width: int, first: bool) -> ChartType:
    x = alt.X("x:Q", title="x", scale=alt.Scale(nice=False), axis=alt.Axis(grid=False, tickCount=8))
    y = alt.Y("y:Q", title="y" if first else None, scale=alt.Scale(domain=limits, nice=False))
    points = alt.Chart(style.data("points")).mark_circle(size=14, color="#9aa3ad", opacity=0.55).encode(x=x, y=y)
    fitted = (
        alt.Chart(style.data(f"fit{index}"))
        .transform_filter("datum.e == at")
        .transform_flatten(["p"], ["y"])
        .transform_window(i="row_number()", groupby=["seed"])
        .transform_calculate(x="xs[datum.i - 1]")
    )
    thin = fitted.mark_line(strokeWidth=1, opacity=0.45, color=style.color(index), clip=True)
    bold = fitted.transform_aggregate(y="mean(y)", groupby=["x"]).mark_line(
        strokeWidth=3, color=style.color(index), clip=True
    )
    layers = [points, thin.encode(x=x, y=y, detail="seed:N"), bold.encode(x=x, y=y)]
    title = style.heading(variant, index, width)
    return alt.layer(*layers, title=title, width=width, height=280)
