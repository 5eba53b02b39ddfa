"""Faster convergence: at the same learning rate, and at the best one of each."""

from statistics import fmean

from normlab.lab import config
from normlab.lab.claims.claim import Claim, Effect
from normlab.lab.claims.rule import Rule
from normlab.lab.claims.seeds import difference, each, fits, minus
from normlab.lab.claims.unit import EPOCHS
from normlab.lab.claims.values import FINAL, REACHED, epochs_to_target, final_test
from normlab.lab.load import Results
from normlab.lab.metric import metric_of
from normlab.lab.record import ENDED

RATE = "optimizer.lr"


def sooner(results: Results) -> Effect:
    """Epochs to the target, none − batch."""
    return difference(results, {"norm": "none"}, {"norm": "batch"}, epochs_to_target)


def sooner_at_best_rates(results: Results) -> Effect:
    """The same, each at its own best learning rate."""
    none, batch = (
        each(results, {"norm": norm, RATE: best_rate(results, norm)}, epochs_to_target) for norm in ("none", "batch")
    )
    return minus(none, batch)


def best_rate(results: Results, norm: str) -> float | None:
    """The learning rate with the best mean final test metric over seeds; the smallest of equals."""
    sign = 1 if metric_of(results.recipe.base).goal == "max" else -1
    finals: dict[float, list[float]] = {}
    for run in results.runs:
        if fits(run, {"norm": norm}) and run.status.state in ENDED and (value := final_test(run)) is not None:
            finals.setdefault(config.setting(run.config, RATE), []).append(sign * value)
    return max(sorted(finals), key=lambda rate: fmean(finals[rate]), default=None)


CLAIMS = (
    Claim(
        name="faster-convergence",
        statement="Batch norm reaches the target in fewer epochs.",
        source="Ioffe & Szegedy 2015, section 4.2.2; S4",
        recipe="deep-tanh",
        uses={"norm": ("none", "batch")},
        measured=f"epochs until the test metric is at the target, without norm − with batch norm; {REACHED}",
        unit=EPOCHS,
        rule=Rule("above", 0.0),
        effect=sooner,
        to_target=True,
    ),
    Claim(
        name="faster-convergence-tuned",
        statement="Batch norm reaches the target in fewer epochs even if each network has its own best learning rate.",
        source="Ioffe & Szegedy 2015, section 4.2.2, made fair: the paper tunes one side; S4",
        recipe="learning-rate",
        uses={"norm": ("none", "batch")},
        measured="epochs until the test metric is at the target, without norm − with batch norm, each at the learning "
        f"rate with its best mean final test metric over seeds, the smallest of equals; {REACHED}; for the choice of "
        f"the rate, {FINAL}",
        unit=EPOCHS,
        rule=Rule("above", 0.0),
        effect=sooner_at_best_rates,
        along=RATE,
        to_target=True,
    ),
)
