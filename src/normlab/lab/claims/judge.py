"""From a claim and the records of its recipe to a verdict."""

from dataclasses import dataclass

from normlab.lab import config
from normlab.lab.claims.claim import Claim, Effect
from normlab.lab.claims.rule import Verdict
from normlab.lab.claims.values import reaches_target
from normlab.lab.load import Results, Run
from normlab.lab.record import ENDED
from normlab.lab.statistics import Estimate, estimate


@dataclass(frozen=True)
class Judgement:
    """What the records say of a claim."""

    claim: Claim
    verdict: Verdict
    effect: Estimate | None
    values: Effect  # one a seed, in the order of `seeds`
    seeds: tuple[int, ...]
    reason: str  # why it is undecided, empty if it is not

    def text(self) -> str:
        """The effect with its interval and unit."""
        if self.effect is None:
            return "–"
        unit, found = self.claim.unit, self.effect
        mean = f"{unit.signed(found.mean)} {unit.many}".rstrip()
        if found.low is None or found.high is None:
            return mean
        return f"{mean} [{unit.signed(found.low)}, {unit.signed(found.high)}]"


def judge(claim: Claim, results: Results) -> Judgement:
    """Judges a claim by its own rule.

    Args:
        claim: one of `CLAIMS`, or your own.
        results: a comparison by the recipe of the claim, finished or not.

    Raises:
        RecordError: a file of a run is missing or damaged.

    Example:
        >>> from normlab.lab import RECIPES, compare, with_words
        >>> from normlab.lab.claims import CLAIMS
        >>> words = ["seeds=1", "epochs=1", "model.depth=1", "norm=none,batch", "target=0.2"]
        >>> results = compare(with_words(RECIPES["deep-tanh"], words), out=getfixture("tmp_path"))
        >>> found = judge(CLAIMS["faster-convergence"], results)
        >>> found.verdict, found.reason
        ('undecided', 'one seed gives no interval')
    """
    misfit = claim.misfit(results.recipe)
    values = (None,) * len(results.seeds) if misfit else claim.effect(results)
    found = estimate([value for value in values if value is not None])
    reason = misfit or _lacking(claim, results, values)
    verdict: Verdict = "undecided" if reason or found is None else claim.rule.verdict(found)
    if verdict == "undecided" and not reason:
        reason = claim.rule.across(claim.unit)
    return Judgement(claim, verdict, found, values, results.seeds, reason)


def _lacking(claim: Claim, results: Results, values: Effect) -> str:
    """What the records still lack, if anything."""
    runs = [run for run in results.runs if _is_used(claim, run)]
    unfinished = sum(run.status.state not in ENDED for run in runs)
    if unfinished:
        return f"{unfinished} of {len(runs)} runs have not finished"
    missing = values.count(None)
    if missing:
        return f"{missing} of {len(values)} seeds have no finite value"
    if claim.to_target and not any(map(reaches_target, runs)):
        return "no run reaches the target"
    return "one seed gives no interval" if len(values) == 1 else ""


def _is_used(claim: Claim, run: Run) -> bool:
    return all(config.setting(run.config, key) in values for key, values in claim.uses.items())
