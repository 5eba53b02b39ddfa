"""The heart of the report: where the values of every layer lie, over time, for each variant.

Above, all variants at one epoch on one axis a layer; below, one row a variant, every epoch. A column has one axis.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from normlab.lab.load import Results
from normlab.lab.report import controls, style
from normlab.lab.report.axes import whole_width
from normlab.lab.report.figure import Figure
from normlab.lab.report.heat import heat_panel
from normlab.lab.report.overlay import overlay_panel
from normlab.lab.report.strips import MOST_LAYERS, Strips, moded, strips
from normlab.lab.report.style import Spec

TITLE = "Distributions layer by layer"
GAP = 36  # px between columns, for the labels of the axis
LEFT = 60  # px left of the first column


def distributions(results: Results) -> Figure:
    """Overlay and heat strips, with an epoch slider and choices of place and statistics."""
    drawn = strips(results)
    if drawn is None:
        return Figure("distributions", TITLE, None, ["No run has been measured yet."])
    columns = len(drawn.layers)
    width = whole_width(min(320, (style.WIDTH - LEFT) / columns - GAP), drawn.epochs[-1] + 1)
    spare = (style.WIDTH - LEFT - width * columns) // columns  # whole pixels, or cells get seams
    grid = {"columns": columns, "bounds": "flush", "spacing": {"row": 30, "column": max(GAP, min(spare, 60))}}
    datasets: dict[str, Sequence[Mapping[str, Any]]] = {"one": [{}]}
    datasets |= {_name(results, drawn, *panel): rows for panel, rows in drawn.rows.items()}
    spans = [
        alt.param(name=f"r{column}", expr=controls.by_site(drawn.ranges[layer]))
        for column, layer in enumerate(drawn.layers)
    ]
    own = all(run.config.model.kind == "own" for run in results.runs)
    frame = alt.vconcat(alt.Chart(style.data("one")).mark_point(), bounds="full", spacing=14)
    frame = frame.add_params(controls.site(own), controls.mode(), *controls.epoch(drawn.epochs), *spans)
    # The panels differ only in their data, so the marks are made once a column: through Altair alone this took 10 s.
    spec = style.finished(frame, datasets) | {
        "vconcat": [
            grid | {"concat": _overlays(results, drawn, width)},
            grid | {"concat": _heats(results, drawn, width)},
        ]
    }
    place = (controls.OWN_SITES if own else controls.SITES)["pre_activation"]
    shown = f"Shown: values {place}, statistics of the batch, epoch {drawn.epochs[-1]}."
    return Figure("distributions", TITLE, spec, _caption(results, drawn), shown)


def _overlays(results: Results, drawn: Strips, width: int) -> list[Spec]:
    """A panel a layer."""
    panels = []
    for column, layer in enumerate(drawn.layers):
        sources = {
            variant: _source(results, drawn, variant, layer)
            for variant in results.variants
            if (variant, layer) in drawn.rows
        }
        title = style.layer_heading(layer, width).to_dict()
        panel = overlay_panel(results.variants, sources, column, drawn.peaks[layer])
        panels.append(panel | {"title": title, "width": width, "height": 110})
    return panels


def _heats(results: Results, drawn: Strips, width: int) -> list[Spec]:
    """A row a variant, a column a layer."""
    variants = results.variants
    height = 96 if len(variants) <= 6 else 48  # a whole number of pixels a cell: no seams
    marks = {
        (column, bottom): style.without_data(heat_panel(column, drawn.epochs, width, bottom))
        for column in range(len(drawn.layers))
        for bottom in (False, True)
    }
    panels = []
    for index, variant in enumerate(variants):
        for column, layer in enumerate(drawn.layers):
            title = alt.TitleParams(variant if column == 0 else "", color=style.color(index), offset=6).to_dict()
            place = {"title": title, "width": width, "height": height}
            if (variant, layer) in drawn.rows:
                panel = marks[column, index == len(variants) - 1] | _source(results, drawn, variant, layer)
            else:
                panel = _nothing()
            panels.append(panel | place)
    return panels


def _nothing() -> Spec:
    text = alt.Chart(style.data("one")).mark_text(text="nothing recorded", color=style.MUTED, fontSize=11)
    return style.without_data(text) | {"data": {"name": "one"}, "view": {"stroke": None}}


def _name(results: Results, drawn: Strips, variant: str, layer: str) -> str:
    return f"v{results.variants.index(variant)}l{drawn.layers.index(layer)}"


def _source(results: Results, drawn: Strips, variant: str, layer: str) -> Spec:
    """The rows of a panel at the chosen place and mode; a place not recorded equals what enters the activation."""
    missing = [site for site in controls.SITES if site not in drawn.sites[variant, layer]]
    site = f"indexof({json.dumps(missing)}, site) >= 0 ? 'pre_activation' : site" if missing else "site"
    mode = "mode" if moded(results, variant) else "'train'"
    return {
        "data": {"name": _name(results, drawn, variant, layer)},
        "transform": [{"filter": f"datum.m == {mode} && datum.s == ({site})"}],
    }


def _caption(results: Results, drawn: Strips) -> list[str]:
    how = (
        "Top: all variants at the epoch of the slider, the first one filled; the square-root scale keeps a narrow and "
        "a wide distribution readable together. Below: every epoch, one row a variant. Solid line: mean; dashed: mean "
        "± standard deviation; vertical dashes: the epoch of the slider. Value axes are linear and the same down a "
        "column. Horizontal stripes: units that ignore the input."
    )
    seeds = max((len(results.of(variant)) for variant in results.variants), default=0)
    diverged = any(run.status.state == "diverged" for run in results.runs)
    left = " (a run that diverged does not stretch it)" if diverged else ""
    what = (
        f"Values are those of the {results.recipe.base.probe} samples of the probe batch"
        f"{f', the counts of all {seeds} seeds added' if seeds > 1 else ''}. An axis shows the central 99 % of each "
        f"variant over all epochs{left}; {_outside(drawn)}."
    )
    left_out = []
    if len(drawn.layers) < len(drawn.all_layers):
        left_out.append(f"{MOST_LAYERS} of the {len(drawn.all_layers)} layers are drawn, evenly spaced.")
    if len(drawn.epochs) <= drawn.epochs[-1]:
        left_out.append(f"{len(drawn.epochs)} of the {drawn.epochs[-1] + 1} epochs are drawn.")
    if drawn.nonfinite:
        left_out.append(
            f"{drawn.nonfinite:,} values were not finite; no axis can show them, a red × marks their epochs."
        )
    notes = " ".join([*_places(results, drawn), *left_out])
    return [how, what, notes] if notes else [how, what]


def _outside(drawn: Strips) -> str:
    share, where = drawn.most_outside
    if share < 0.0005:
        return "nothing lies outside"
    return f"at most {100 * share:.1f} % lie outside ({where})"


def _places(results: Results, drawn: Strips) -> list[str]:
    """What is shown where a place does not exist."""
    said = []
    if any(run.config.norm == "none" for run in results.runs):
        own = all(run.config.model.kind == "own" for run in results.runs)
        what = "what passes where the norms were" if own else "what enters the activation"
        said.append(f"A variant without a norm shows, for “before the norm”, {what}.")
    if any("activation" not in kinds for kinds in drawn.sites.values()):
        said.append("Where no activation follows, the values are shown as they are.")
    if any(run.config.norm == "batch" for run in results.runs):
        said.append("In eval mode batch norm does nothing yet at epoch 0: its running statistics start at 0 and 1.")
    return said
