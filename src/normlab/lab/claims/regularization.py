"""Regularization: the gap between training and test, and whether dropout is still needed."""

from normlab.lab.claims.claim import Claim
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import difference, in_points
from normlab.lab.claims.unit import POINTS
from normlab.lab.claims.values import FINAL, final_test, gap_to_test

DROPOUT = "model.dropout"
DROPPED = 0.75  # the keep share of 0.25 of S0

CLAIMS = (
    Claim(
        name="regularization",
        statement="Batch norm narrows the gap between training and test accuracy.",
        source="Ioffe & Szegedy 2015, section 3.4; S1 and S4",
        recipe="dropout",
        uses={"norm": ("none", "batch"), DROPOUT: (0.0,)},
        measured="accuracy on the probed training samples less that on the test set, both in eval mode at the end, "
        "without norm − with batch norm, no dropout; of a run that diverged, in the last epoch that has both",
        unit=POINTS,
        rule=Rule("above", 0.0),
        effect=lambda results: in_points(
            difference(results, {"norm": "none", DROPOUT: 0.0}, {"norm": "batch", DROPOUT: 0.0}, gap_to_test)
        ),
    ),
    Claim(
        name="dropout-unnecessary",
        statement="With batch norm, a network without dropout is at most one point worse than one with it.",
        source="Ioffe & Szegedy 2015, sections 3.4 and 4.2.1; S0 and S1",
        recipe="dropout",
        uses={"norm": ("batch",), DROPOUT: (0.0, DROPPED)},
        measured=f"final test accuracy with batch norm, without dropout − with dropout {DROPPED:g}; {FINAL}",
        unit=POINTS,
        rule=Rule("above", -1.0),
        effect=lambda results: in_points(
            difference(results, {"norm": "batch", DROPOUT: 0.0}, {"norm": "batch", DROPOUT: DROPPED}, final_test)
        ),
    ),
)
