"""The bias in front of a norm: redundant, and without a gradient."""

import math

from normlab.lab.claims.claim import Claim
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import difference, each, in_points
from normlab.lab.claims.unit import LOG10, POINTS
from normlab.lab.claims.values import FINAL, final_test
from normlab.lab.load import Run

BIAS = "model.bias"
OUTPUT = "output"  # the one layer without a norm behind it
LEAST = 1e-12  # far below the rounding of float32; its logarithm stands for that of zero


def gradient_ratio(run: Run) -> float | None:
    """log10 of the largest gradient norm of a bias over that of the weight beside it, in any layer and epoch ≥ 1."""
    ratios = [
        bias / weight
        for line in run.metrics[1:]
        for layer, bias in line.get("bias_gradient_norm", {}).items()
        if layer != OUTPUT and bias is not None and (weight := line["gradient_norm"].get(layer))
    ]
    return math.log10(max(LEAST, *ratios)) if ratios else None


CLAIMS = (
    Claim(
        name="bias-is-redundant",
        statement="With batch norm behind it, a layer does not need its bias.",
        source="Ioffe & Szegedy 2015, section 3.2; S2",
        recipe="bias",
        uses={"norm": ("batch",), BIAS: (True, False)},
        measured=f"final test accuracy with batch norm, with bias − without; {FINAL}",
        unit=POINTS,
        rule=Rule("within", 1.0),
        effect=lambda results: in_points(
            difference(results, {"norm": "batch", BIAS: True}, {"norm": "batch", BIAS: False}, final_test)
        ),
    ),
    Claim(
        name="bias-has-no-gradient",
        statement="With batch norm behind it, the gradient of a bias is zero but for rounding.",
        source="Ioffe & Szegedy 2015, section 3.2; S2",
        recipe="bias",
        uses={"norm": ("batch",), BIAS: (True,)},
        measured="log10 of the largest ratio of the gradient norm of a bias to that of its weight, with batch norm, "
        f"over all layers but the output and all epochs but 0; a ratio under {LEAST:g} counts as that, and where the "
        "weight has no gradient there is none",
        unit=LOG10,
        rule=Rule("below", -4.0),
        effect=lambda results: each(results, {"norm": "batch", BIAS: True}, gradient_ratio),
    ),
)
