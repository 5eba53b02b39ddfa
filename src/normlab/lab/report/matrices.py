"""Layer × epoch matrices of one number, a panel a variant."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
from altair.typing import ChartType

from normlab.lab.load import Results
from normlab.lab.report import style
from normlab.lab.report.axes import epoch_axis, overlap, whole_width
from normlab.lab.report.recorded import in_order, last_epoch, lines, shown_epochs

DECADES = 8  # a colour bar spans no more: what lies below takes its last colour
ZERO = -99.0  # stands for the logarithm of zero
COLUMNS = 4
MOST_EPOCHS = 120
MOST_LETTERS = 26
LABEL = f"length(datum.label) > {MOST_LETTERS} ? '…' + slice(datum.label, {1 - MOST_LETTERS}) : datum.label"

# from a line of `metrics.jsonl` to its number for every layer
Read = Callable[[Mapping[str, Any]], Mapping[str, float | None]]


@dataclass(frozen=True)
class Quantity:
    """A number that every layer has at every epoch. `middle` is the value that should be neither high nor low."""

    name: str
    title: str
    read: Read
    log: bool = True
    middle: float | None = None


def matrix(
    results: Results, quantity: Quantity, variants: Sequence[str]
) -> tuple[alt.ConcatChart, dict[str, list[dict[str, Any]]]] | None:
    """One panel for each variant, all with the same colours; None if no run has the number."""
    epochs = shown_epochs(last_epoch(results), MOST_EPOCHS)
    found = {variant: _medians(results, quantity, variant, epochs) for variant in variants}
    layers = in_order([layer for rows in found.values() for layer in rows])
    if not layers:
        return None
    values = [value for rows in found.values() for row in rows.values() for value in row if isinstance(value, float)]
    color = _color(quantity, values)
    columns = min(COLUMNS, len(variants))
    room = (style.WIDTH - 130) / columns - 52
    datasets: dict[str, list[dict[str, Any]]] = {}
    panels: list[ChartType] = []
    for variant in variants:
        index = results.variants.index(variant)
        datasets[f"{quantity.name}{index}"] = [{"l": layer, "v": row} for layer, row in found[variant].items()]
        title = style.heading(variant, index, room)
        panel = _draw(quantity, f"{quantity.name}{index}", layers, epochs, color, room, len(panels) % columns == 0)
        panels.append(panel.properties(title=title))
    title = alt.TitleParams(quantity.title, fontSize=14, offset=12)
    return alt.concat(*panels, columns=columns, spacing=18, title=title), datasets


def _medians(
    results: Results, quantity: Quantity, variant: str, epochs: Sequence[int]
) -> dict[str, list[float | str | None]]:
    """By layer, a value an epoch: the median over seeds, as a logarithm if colours are; `bad` if not finite."""
    seen: dict[tuple[str, int], list[float | None]] = {}
    for run in results.of(variant):
        for line in lines(run):
            for layer, value in quantity.read(line).items():
                seen.setdefault((layer, line["epoch"]), []).append(value)
    layers = in_order([layer for layer, _ in seen])
    return {layer: [_cell(quantity, seen.get((layer, epoch))) for epoch in epochs] for layer in layers}


def _cell(quantity: Quantity, values: Sequence[float | None] | None) -> float | str | None:
    if values is None:
        return None
    known = sorted(value for value in values if value is not None)
    if not known:
        return "bad"
    half = len(known) // 2
    middle = known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2
    if not quantity.log:
        return round(middle, 4)
    return round(math.log10(middle), 3) if middle > 0 else ZERO


def _color(quantity: Quantity, values: Sequence[float]) -> alt.Color:
    if not quantity.log:
        legend = alt.Legend(
            title=None, format=".0%", values=[0, 0.01, 0.1, 0.5, 1], gradientLength=110, gradientThickness=12
        )
        steps = len(style.DENSITY) - 1
        stops = [(step / steps) ** 2 for step in range(steps + 1)]
        scale = alt.Scale(type="sqrt", domain=stops, range=list(style.DENSITY))
        return alt.Color("v:Q", scale=scale, legend=legend)
    low, high = log_domain(values)
    power = "abs(datum.value) < 3.5 ? format(pow(10, datum.value), '.1~r') : '1e' + format(datum.value, 'd')"
    ticks = list(range(math.ceil(low), math.floor(high) + 1))
    legend = alt.Legend(
        title=None, labelExpr=power, values=ticks[:: max(1, len(ticks) // 5)], gradientLength=110, gradientThickness=12
    )
    if quantity.middle is None:
        scale = alt.Scale(domain=[low, high], range=list(style.DENSITY), clamp=True)
    else:
        stops = around(math.log10(quantity.middle), low, high)
        scale = alt.Scale(domain=stops, range=list(style.DIVERGING), clamp=True)
        legend.values = list(range(round(stops[0]), round(stops[-1]) + 1))
    return alt.Color("v:Q", scale=scale, legend=legend)


def log_domain(values: Sequence[float]) -> tuple[float, float]:
    """Whole decades around the logarithms, at most eight, counted from the top.

    Example:
        >>> log_domain([-2.5, -0.2]), log_domain([-40.0, 1.5, ZERO])
        ((-3.0, 0.0), (-6.0, 2.0))
    """
    known = [value for value in values if value != ZERO]
    if not known:
        return -1.0, 0.0
    high = float(math.ceil(max(known)))
    return max(min(float(math.floor(min(known))), high - 1), high - DECADES), high


def around(middle: float, low: float, high: float, decades: int = 4) -> list[float]:
    """Seven stops from low to high with the middle in the middle, one to four decades on either side.

    Example:
        >>> around(-3.0, -8.0, -2.4)
        [-7.0, -5.667, -4.333, -3.0, -2.667, -2.333, -2.0]
    """
    down = min(max(middle - low, 1.0), decades)
    up = min(max(high - middle, 1.0), decades)
    below = [middle - down * part / 3 for part in (3, 2, 1)]
    above = [middle + up * part / 3 for part in (1, 2, 3)]
    return [round(stop, 3) for stop in (*below, middle, *above)]


def _draw(
    quantity: Quantity,
    name: str,
    layers: Sequence[str],
    epochs: Sequence[int],
    color: alt.Color,
    room: float,
    first: bool,
) -> ChartType:
    last = epochs[-1]
    step = epochs[1] - epochs[0] if len(epochs) > 1 else 1
    width = whole_width(min(room, 420), last + 1)
    x = alt.X("x0:Q", axis=epoch_axis(last), scale=alt.Scale(domain=[-0.5, last + 0.5], nice=False))
    y = alt.Y(
        "l:N",
        sort=list(layers),
        title="layer" if first else None,
        scale=alt.Scale(domain=list(layers), paddingInner=0, paddingOuter=0),
        # the names stand once in a row; of a long one the end is kept, which tells layers apart
        axis=alt.Axis(
            labels=first,
            labelExpr=LABEL,
            labelOverlap=True,
            ticks=False,
            domain=False,
        ),
    )
    shown = "datum.v == 0" if not quantity.log else f"datum.v == {ZERO:g}"
    number = "format(datum.v, '.1%')" if not quantity.log else "format(pow(10, datum.v), '.3~g')"
    cells = (
        alt.Chart(style.data(name))
        .transform_flatten(["v"])
        .transform_window(i="row_number()", groupby=["l"])
        .transform_filter("datum.v !== null")
        .transform_calculate(
            epoch=f"min({last}, (datum.i - 1) * {step})",
            x0="datum.epoch - 0.5",
            x1=f"min({last}, datum.epoch + {step} - 1) + {0.5 + overlap(width, last + 1)}",
            text=f"datum.v === 'bad' ? 'not finite' : {shown} ? '0' : {number}",
        )
    )
    tips = [alt.Tooltip("l:N", title="layer"), alt.Tooltip("epoch:Q"), alt.Tooltip("text:N", title=quantity.title)]
    rect = cells.transform_filter("datum.v !== 'bad'").mark_rect().encode(x=x, x2="x1", y=y, color=color, tooltip=tips)
    bad = cells.transform_filter("datum.v === 'bad'")
    cross = bad.mark_text(text="×", color=style.BAD, fontSize=13, fontWeight="bold").encode(
        x=alt.X("epoch:Q"), y=y, tooltip=tips
    )
    height = max(4, min(16, 320 // len(layers))) * len(layers)
    return alt.layer(rect, cross, width=width, height=height, view=alt.ViewBackground(fill="#ffffff"))
