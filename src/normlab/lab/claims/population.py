"""Where the statistics of evaluation come from: moving averages, the simple average, and pooling."""

import math
from typing import Any

from normlab.lab.claims.claim import Claim, Effect
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import Value, difference, in_points
from normlab.lab.claims.unit import NUMBER, POINTS
from normlab.lab.claims.values import FINAL, final_test
from normlab.lab.load import Results, Run

MOMENTUM = "norm_momentum"
SLOW, WARM = 0.01, 0.1


def between(results: Results, first: Any, second: Any, value: Value) -> Effect:
    """The value with the first statistics − with the second."""
    return difference(results, {"norm": "batch", MOMENTUM: first}, {"norm": "batch", MOMENTUM: second}, value)


def gap_to_population(run: Run) -> float | None:
    """Root mean square, over layers, of the gaps of mean and variance that were recorded last."""
    gaps = [gap[moment] for gap in run.metrics[-1]["statistics_gap"].values() for moment in ("mean", "var")]
    known = [gap for gap in gaps if gap is not None]
    if len(known) < len(gaps) or not known:
        return None
    return math.sqrt(sum(gap**2 for gap in known) / len(known))


CLAIMS = (
    Claim(
        name="average-against-ema",
        statement="After few steps the simple average evaluates better than a moving average that is not warmed up.",
        source="S2; Ioffe & Szegedy 2015, algorithm 2",
        recipe="population",
        uses={"norm": ("batch",), MOMENTUM: ("average", SLOW)},
        measured=f"final test accuracy with the simple average − with the moving average of momentum {SLOW:g}; {FINAL}",
        unit=POINTS,
        rule=Rule("above", 1.0),
        effect=lambda results: in_points(between(results, "average", SLOW, final_test)),
    ),
    Claim(
        name="warmed-up-ema-is-as-good",
        statement="A moving average that is warmed up evaluates as well as the simple average.",
        source="S2; Ioffe & Szegedy 2015, section 3.1",
        recipe="population",
        uses={"norm": ("batch",), MOMENTUM: ("average", WARM)},
        measured=f"final test accuracy with the simple average − with the moving average of momentum {WARM:g}; {FINAL}",
        unit=POINTS,
        rule=Rule("within", 1.0),
        effect=lambda results: in_points(between(results, "average", WARM, final_test)),
    ),
    Claim(
        name="pooled-is-nearest",
        statement="Pooling by count comes nearer to the true population than a moving average.",
        source="S2",
        recipe="population",
        uses={"norm": ("batch",), MOMENTUM: (WARM, "pooled")},
        measured="gap between the statistics of evaluation and those of the whole training set, of the mean in "
        "standard deviations and of the variance as the logarithm of the ratio, root mean square over layers at the "
        f"end, with the moving average of momentum {WARM:g} − pooled; a run that diverged has none",
        unit=NUMBER,
        rule=Rule("above", 0.0),
        effect=lambda results: between(results, WARM, "pooled", gap_to_population),
    ),
)
