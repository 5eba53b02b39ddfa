"""What is said of claims wherever they are shown: sentences without markup."""

from collections.abc import Iterable

from normlab.lab.claims.inquiry import Inquiry
from normlab.lab.claims.judge import Judgement
from normlab.lab.load import Results
from normlab.lab.record import ENDED

HOW = (
    "An effect is one number a seed, taken between runs of that seed, which share initial weights and batches; its "
    "interval is Student's t over seeds, 95 %. An interval of no width means that every seed gave the same number. "
    "Rules and thresholds stand in the code beside each claim and were written before the runs. Each claim is judged "
    "by itself: nothing is corrected for their number."
)


def counted(inquiry: Inquiry) -> str:
    """How many claims came to what.

    Example:
        >>> from pathlib import Path
        >>> from normlab.lab.claims.selection import Selection
        >>> counted(Inquiry(Path(), Selection(claims=(), quick=True, begun=""), {}, ()))
        '0 supported, 0 not supported, 0 undecided'
    """
    verdicts = [found.verdict for found in inquiry.judgements]
    return ", ".join(f"{verdicts.count(each)} {each}" for each in ("supported", "not supported", "undecided"))


def verdict(found: Judgement) -> str:
    """The verdict, with the reason if nothing was decided."""
    return f"{found.verdict}: {found.reason}" if found.reason else found.verdict


def values(found: Judgement) -> str:
    """The effect of each seed."""
    unit = found.claim.unit
    shown = ("none" if value is None else unit.signed(value) for value in found.values)
    return ", ".join(shown)


def seeds(found: Judgement) -> str:
    """Which seeds.

    Example:
        >>> from normlab.lab.claims import CLAIMS
        >>> seeds(Judgement(CLAIMS["regularization"], "undecided", None, (None,) * 3, (0, 1, 2), ""))
        'seeds 0 to 2'
    """
    first, last = found.seeds[0], found.seeds[-1]
    return f"seeds {first} to {last}" if len(found.seeds) > 1 else f"seed {first}"


def target(results: Results) -> str:
    """What counts as reached."""
    return f"test {results.metric.name} {results.metric.text(results.recipe.base.target)}"


def versions(inquiry: Inquiry) -> str:
    """On what the runs were made, as recorded; several if they differ."""
    runs = [run for results in inquiry.comparisons.values() for run in results.runs]
    made = [run.environment for run in runs if run.status.state in ENDED]
    said = (
        f"normlab {_all(each.get('normlab') for each in made)}",
        f"commit {_all(each.get('commit') for each in made)}",
        f"torch {_all(each.get('packages', {}).get('torch') for each in made)}",
        f"Python {_all(each.get('python') for each in made)}",
        f"processor {_all(each.get('processor') for each in made)}",
    )
    return ", ".join(said) if made else "no run has ended"


def _all(found: Iterable[object]) -> str:
    return " and ".join(dict.fromkeys(str(each or "unknown") for each in found))
