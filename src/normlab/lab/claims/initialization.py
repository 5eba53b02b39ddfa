"""Less dependence on initialization: the number of weight scales that train."""

from normlab.lab.claims.claim import Claim, Effect
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import minus, sweeps
from normlab.lab.claims.unit import SCALES
from normlab.lab.claims.values import BEST, reaches_target
from normlab.lab.load import Results

SCALE = "init.weight_std"
TIMES = 2.0


def more_scales(results: Results, norm: str) -> Effect:
    """Weight scales that reach the target, with that norm − twice those without."""
    with_norm, without = (
        tuple(
            None if runs is None else float(sum(map(reaches_target, runs.values())))
            for runs in sweeps(results, {"norm": each}, SCALE)
        )
        for each in (norm, "none")
    )
    return minus(with_norm, without, TIMES)


def _measured(norm: str) -> str:
    return (
        f"number of weight scales at which the best test metric is at the target, with {norm} norm − {TIMES:g} × "
        f"without; {BEST}"
    )


CLAIMS = (
    Claim(
        name="less-dependence-on-initialization",
        statement="Batch norm trains from more than twice as many weight scales.",
        source="Ioffe & Szegedy 2015, section 1; S0 (20 weight scales), S4",
        recipe="weight-scale",
        uses={"norm": ("none", "batch")},
        measured=_measured("batch"),
        unit=SCALES,
        rule=Rule("above", 0.0),
        effect=lambda results: more_scales(results, "batch"),
        along=SCALE,
        to_target=True,
    ),
    Claim(
        name="less-dependence-layer",
        statement="Layer norm trains from more than twice as many weight scales.",
        source="Ba, Kiros & Hinton 2016, section 5.1; S0 (the same with layer norm)",
        recipe="weight-scale",
        uses={"norm": ("none", "layer")},
        measured=_measured("layer"),
        unit=SCALES,
        rule=Rule("above", 0.0),
        effect=lambda results: more_scales(results, "layer"),
        along=SCALE,
        to_target=True,
    ),
)
