"""What is said of the values at one place: moments, shares, counts."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from normlab.lab.grid import Histogram
from normlab.lab.histogram import histograms
from normlab.lab.models.block import Block
from normlab.lab.sites import Layout, Site

Mode = Literal["train", "eval", "both"]  # both: one measurement that stands for the two, as they cannot differ
Place = tuple[Site, Mode]
NEAR_ZERO = 0.01  # values smaller than this count as near zero
# A value counts as saturated where the activation is all but flat: within 1 % of an end of its range.
SATURATED = {nn.Tanh: (-0.99, 0.99), nn.Sigmoid: (0.01, 0.99), nn.ReLU: (0.0, math.inf)}


def number(value: torch.Tensor | float) -> float | None:
    """A float that JSON can hold: None for what is not finite."""
    plain = float(value)
    return plain if math.isfinite(plain) else None


def flat_ends(layout: Layout) -> tuple[float, float] | None:
    """Below and above which values the activation of this network is flat."""
    kinds = [type(place.activation) for place in layout.places.values() if isinstance(place, Block)]
    return next((SATURATED[kind] for kind in kinds if kind in SATURATED), None)


def distributions(
    seen: Mapping[Place, torch.Tensor], ends: tuple[float, float] | None
) -> tuple[list[dict[str, Any]], dict[Place, Histogram]]:
    """Moments, shares and histogram of each place, those of one size at once (twice as fast)."""
    by_size: dict[int, list[Place]] = {}
    for place, tensor in seen.items():
        by_size.setdefault(tensor.numel(), []).append(place)
    moments: dict[Place, dict[str, Any]] = {}
    counted: dict[Place, Histogram] = {}
    for places in by_size.values():
        rows = torch.stack([seen[place].flatten() for place in places])
        counted |= zip(places, histograms(rows), strict=True)
        moments |= zip(places, _moments(rows), strict=True)
        near_zero = (rows.abs() < NEAR_ZERO).numpy()
        for index, place in enumerate(places):
            moments[place] |= {
                "saturated": _saturated(rows[index], ends, counted[place].nonfinite)
                if ends and place[0].kind == "activation"
                else None,
                "near_zero": _share(near_zero[index], rows.shape[1] - counted[place].nonfinite),
                "nonfinite": counted[place].nonfinite,
            }
    records = [{"layer": site.layer, "site": site.kind, "mode": mode} | moments[site, mode] for site, mode in seen]
    return records, {place: counted[place] for place in seen}


def _moments(rows: torch.Tensor) -> list[dict[str, Any]]:
    """Mean and standard deviation of the finite values of each row, in two passes."""
    mean = rows.mean(dim=1)
    var = (rows - mean[:, None]).square_().mean(dim=1)
    if not bool(var.isfinite().all()):
        finite = [row[row.isfinite()].double() if bool(row.isfinite().any()) else row.double() for row in rows]
        mean = torch.stack([row.mean() for row in finite])
        var = torch.stack([row.var(correction=0) for row in finite])
    return [{"mean": number(m), "std": number(v)} for m, v in zip(mean.tolist(), var.sqrt().tolist(), strict=True)]


def _saturated(values: torch.Tensor, ends: tuple[float, float], nonfinite: int) -> float | None:
    flat = (values <= ends[0]) | (values >= ends[1])
    if nonfinite:
        flat &= values.isfinite()
    return _share(flat.numpy(), values.numel() - nonfinite)


def _share(chosen: np.ndarray, of: int) -> float | None:
    """Of the finite values; None if there is none."""
    return np.count_nonzero(chosen) / of if of else None
