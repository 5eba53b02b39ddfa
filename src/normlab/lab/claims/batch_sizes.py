"""Batch sizes: batch norm needs large ones, the others do not."""

from normlab.lab.claims.claim import Claim, Effect
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import in_points, minus, sweeps
from normlab.lab.claims.unit import POINTS
from normlab.lab.claims.values import BEST, best_test
from normlab.lab.load import Results

CONFOUNDED = "epochs are the same, so that the small batches have more steps"


def larger_is_better(results: Results, norm: str) -> Effect:
    """Best test accuracy at the largest batch − at the smallest."""
    return in_points(minus(_at(results, norm, -1), _at(results, norm, 0)))


def better_at_the_smallest(results: Results, norm: str, other: str) -> Effect:
    """Best test accuracy at the smallest batch, of one norm − of the other."""
    return in_points(minus(_at(results, norm, 0), _at(results, other, 0)))


def _at(results: Results, norm: str, place: int) -> Effect:
    found = sweeps(results, {"norm": norm}, "batch")
    return tuple(None if runs is None else best_test(list(runs.values())[place]) for runs in found)


def _measured(norm: str) -> str:
    return f"best test accuracy with {norm} norm at the largest batch − at the smallest; {CONFOUNDED}; {BEST}"


CLAIMS = (
    Claim(
        name="batch-norm-needs-large-batches",
        statement="Batch norm loses more than five points at the smallest batch.",
        source="Wu & He 2018, figure 1; S0 (batches of 5, 10 and 50)",
        recipe="batch-size",
        uses={"norm": ("batch",)},
        measured=_measured("batch"),
        unit=POINTS,
        rule=Rule("above", 5.0),
        effect=lambda results: larger_is_better(results, "batch"),
        along="batch",
    ),
    Claim(
        name="layer-norm-does-not",
        statement="Layer norm loses less than five points at the smallest batch.",
        source="Ba, Kiros & Hinton 2016, section 3; S0 (the same with layer norm)",
        recipe="batch-size",
        uses={"norm": ("layer",)},
        measured=_measured("layer"),
        unit=POINTS,
        rule=Rule("below", 5.0),
        effect=lambda results: larger_is_better(results, "layer"),
        along="batch",
    ),
    Claim(
        name="group-norm-at-the-smallest-batch",
        statement="At the smallest batch, group norm is better than batch norm.",
        source="Wu & He 2018, figure 1; the number of steps is the same on both sides",
        recipe="batch-size",
        uses={"norm": ("batch", "group")},
        measured=f"best test accuracy at the smallest batch, with group norm − with batch norm; {BEST}",
        unit=POINTS,
        rule=Rule("above", 0.0),
        effect=lambda results: better_at_the_smallest(results, "group", "batch"),
        along="batch",
    ),
)
