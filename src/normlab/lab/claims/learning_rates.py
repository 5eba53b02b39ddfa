"""Larger learning rates: the largest that still trains."""

import math
from collections.abc import Iterable

from normlab.lab.claims.claim import Claim, Effect
from normlab.lab.claims.convergence import RATE
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import minus, sweeps
from normlab.lab.claims.unit import DECADES
from normlab.lab.claims.values import BEST, reaches_target
from normlab.lab.load import Results, Run


def wider(results: Results, norm: str) -> Effect:
    """log10 of the largest learning rate that reaches the target, with that norm − without."""
    with_norm, without = (
        tuple(None if runs is None else _largest(runs) for runs in sweeps(results, {"norm": each}, RATE))
        for each in (norm, "none")
    )
    return minus(with_norm, without)


def _largest(runs: dict[float, Run]) -> float:
    reached = [rate for rate, run in runs.items() if reaches_target(run)]
    return math.log10(max(reached)) if reached else _below(runs)


def _below(rates: Iterable[float]) -> float:
    """One step of the grid below its smallest value, in the logarithm."""
    first, second = sorted(rates)[:2]
    return 2 * math.log10(first) - math.log10(second)


def _measured(norm: str) -> str:
    return (
        f"log10 of the largest learning rate whose best test metric is at the target, with {norm} norm − without; a "
        "seed that reaches it at no rate counts as one step of the grid below the smallest rate, and no rate above the "
        f"largest was tried; {BEST}"
    )


CLAIMS = (
    Claim(
        name="larger-learning-rates",
        statement="Batch norm trains at larger learning rates.",
        source="Ioffe & Szegedy 2015, section 3.3; S1 and S4",
        recipe="learning-rate",
        uses={"norm": ("none", "batch")},
        measured=_measured("batch"),
        unit=DECADES,
        rule=Rule("above", 0.0),
        effect=lambda results: wider(results, "batch"),
        along=RATE,
        to_target=True,
    ),
    Claim(
        name="larger-learning-rates-layer",
        statement="Layer norm trains at larger learning rates.",
        source="Ba, Kiros & Hinton 2016, section 5.2; the claim of S1 and S4, put to layer norm",
        recipe="learning-rate",
        uses={"norm": ("none", "layer")},
        measured=_measured("layer"),
        unit=DECADES,
        rule=Rule("above", 0.0),
        effect=lambda results: wider(results, "layer"),
        along=RATE,
        to_target=True,
    ),
)
