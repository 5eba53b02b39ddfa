"""The rule by which a claim is judged: on which side of a threshold the interval of the effect must lie."""

from dataclasses import dataclass
from typing import Literal

from normlab.lab.claims.unit import Unit
from normlab.lab.statistics import CONFIDENCE, Estimate

Verdict = Literal["supported", "not supported", "undecided"]


@dataclass(frozen=True)
class Rule:
    """`above` or `below` a threshold, or `within` that distance of zero."""

    kind: Literal["above", "below", "within"]
    threshold: float

    def verdict(self, found: Estimate) -> Verdict:
        """What an effect with this interval comes to; without an interval nothing is decided.

        Example:
            >>> rule = Rule("above", 5.0)
            >>> rule.verdict(Estimate(7.0, 6.0, 8.0, 3)), rule.verdict(Estimate(7.0, 4.0, 10.0, 3))
            ('supported', 'undecided')
        """
        low, high, limit = found.low, found.high, self.threshold
        if low is None or high is None:
            return "undecided"
        if self.kind == "above":
            holds, fails = low > limit, high <= limit
        elif self.kind == "below":
            holds, fails = high < limit, low >= limit
        else:
            holds, fails = -limit <= low and high <= limit, low > limit or high < -limit
        return "supported" if holds else "not supported" if fails else "undecided"

    def short(self, unit: Unit) -> str:
        """Where the interval must lie.

        Example:
            >>> from normlab.lab.claims.unit import POINTS
            >>> Rule("within", 1.0).short(POINTS)
            'within ±1 point'
        """
        return f"{self.kind} {'±' if self.kind == 'within' else ''}{unit.amount(self.threshold)}"

    def text(self, unit: Unit) -> str:
        """The whole rule."""
        lies = f"supported if the {100 * CONFIDENCE:g} % interval of the effect lies {self.short(unit)}"
        elsewhere = {
            "above": f"lies at or below {unit.amount(self.threshold)}",
            "below": f"lies at or above {unit.amount(self.threshold)}",
            "within": "lies wholly outside",
        }
        return f"{lies}, not supported if it {elsewhere[self.kind]}, else undecided"

    def across(self, unit: Unit) -> str:
        """Why an interval decides nothing."""
        return f"the interval reaches across {'±' if self.kind == 'within' else ''}{unit.amount(self.threshold)}"
