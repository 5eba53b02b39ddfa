"""The numbers behind the distributions: for each variant, layer, place, mode and epoch a row of cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from normlab.lab.config import Model
from normlab.lab.load import Place, Results
from normlab.lab.report.controls import SITES
from normlab.lab.report.pooled import Pooled, pooled
from normlab.lab.report.rebin import CELLS, EVERYWHERE, SUPPORT, Range, Strip, axis_range, central_range, rebin
from normlab.lab.report.recorded import evenly_spaced, in_order, last_epoch, shown_epochs

MOST_LAYERS = 9  # columns that fit the page: eight hidden layers and a normalized input
MOST_ROWS = 6000  # rows of cells in the page, a little over a megabyte
SHARE = 10_000  # shares are written as whole numbers of this part


@dataclass(frozen=True)
class Strips:
    """Everything that the distributions draw.

    `ranges` and `peaks` (the largest density) are those of a column: by layer, then by place.
    `rows` are those of a panel: by variant and layer. `sites` is what was recorded there.
    """

    layers: Sequence[str]
    all_layers: Sequence[str]
    epochs: Sequence[int]
    ranges: Mapping[str, Mapping[str, Range]]
    peaks: Mapping[str, Mapping[str, float]]
    rows: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    sites: Mapping[tuple[str, str], frozenset[str]]
    most_outside: tuple[float, str]
    nonfinite: int


def strips(results: Results) -> Strips | None:
    """None if no histogram was recorded."""
    found = {variant: _once(results, variant) for variant in results.variants}
    all_layers = in_order([place.layer for places in found.values() for place in places])
    if not all_layers:
        return None
    layers = evenly_spaced(all_layers, MOST_LAYERS)
    panels = {
        (variant, place.layer, place.site, place.mode)
        for variant, places in found.items()
        for place in places
        if place.layer in layers
    }
    epochs = shown_epochs(last_epoch(results), max(8, min(61, MOST_ROWS // len(panels))))
    support = {variant: _range(results.of(variant)[0].config.model) for variant in results.variants}
    ranges = _ranges(results, found, layers, support)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    sites: dict[tuple[str, str], set[str]] = {}
    peaks: dict[str, dict[str, float]] = {layer: {} for layer in layers}
    outside, nonfinite = (0.0, ""), 0
    for variant, places in found.items():
        for place, values in places.items():
            nonfinite += values.counted.nonfinite
            if place.layer not in layers or (place.epoch not in epochs and not values.counted.nonfinite):
                continue  # what is not finite is shown, even between the epochs that are drawn
            span = ranges[place.layer][place.site]
            strip = rebin(values.counted, span, _support(place, support[variant]))
            panel = (variant, place.layer)
            rows.setdefault(panel, []).append(_row(place, values, strip))
            sites.setdefault(panel, set()).add(place.site)
            density = float(strip.shares.max()) * CELLS / (span[1] - span[0])
            peaks[place.layer][place.site] = max(density, peaks[place.layer].get(place.site, 0.0))
            outside = max(outside, (strip.outside, f"{variant}, layer {place.layer}, epoch {place.epoch}"))
    fixed = {panel: frozenset(kinds) for panel, kinds in sites.items()}
    return Strips(layers, all_layers, epochs, ranges, peaks, rows, fixed, outside, nonfinite)


def moded(results: Results, variant: str) -> bool:
    """Whether train and eval mode differ: by running statistics, which batch norm alone keeps."""
    return any(run.config.norm == "batch" for run in results.of(variant))


def _once(results: Results, variant: str) -> dict[Place, Pooled]:
    """What was recorded, without repeating in eval mode what is the same in train mode."""
    both = moded(results, variant)
    return {place: values for place, values in pooled(results.of(variant)).items() if both or place.mode == "train"}


def _support(place: Place, activation: Range) -> Range:
    return activation if place.site == "activation" else EVERYWHERE


def _ranges(
    results: Results,
    found: Mapping[str, Mapping[Place, Pooled]],
    layers: Sequence[str],
    support: Mapping[str, Range],
) -> dict[str, dict[str, Range]]:
    """The axis of every column: wide enough for the central 99 % of each variant, over all epochs and both modes."""
    judged = found
    if any(run.status.state == "diverged" for run in results.runs):
        # it would stretch the axis until nothing else could be seen
        calm = {
            variant: pooled([run for run in results.of(variant) if run.status.state != "diverged"])
            for variant in results.variants
        }
        judged = calm if any(calm.values()) else found
    ranges: dict[str, dict[str, Range]] = {}
    for layer in layers:
        for site in SITES:
            wanted = []
            for variant, places in judged.items():
                here = [value.counted for place, value in places.items() if (place.layer, place.site) == (layer, site)]
                if here:
                    whole = sum(here[1:], start=here[0])
                    span = central_range(whole, _support(Place(0, layer, site, ""), support[variant]))
                    wanted += [span] if span else []
            ranges.setdefault(layer, {})[site] = axis_range(wanted)
    return ranges


def _row(place: Place, values: Pooled, strip: Strip) -> dict[str, Any]:
    """One epoch of a panel: shares `d` from cell `o` on, mean `a`, deviation `b`, share outside `u`, not finite `n`."""
    shares = np.rint(strip.shares * SHARE).astype(int)
    occupied = np.flatnonzero(shares)
    # an empty cell on either side brings an outline down to zero
    first, end = (max(occupied[0] - 1, 0), min(occupied[-1] + 2, CELLS)) if len(occupied) else (0, 0)
    row: dict[str, Any] = {"e": place.epoch, "s": place.site, "m": place.mode, "o": int(first)}
    row |= {"d": shares[first:end].tolist(), "a": _short(values.mean), "b": _short(values.std)}
    if strip.outside >= 0.5 / SHARE:
        row["u"] = round(strip.outside, 4)
    if strip.nonfinite:
        row["n"] = values.counted.nonfinite
    return row


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _range(model: Model) -> Range:
    """Where the values of its activations lie; everywhere in a network of the user's, whose activations are unknown."""
    return EVERYWHERE if model.kind == "own" else SUPPORT.get(model.activation, EVERYWHERE)
