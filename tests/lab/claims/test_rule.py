"""Each kind of rule against intervals on either side of its threshold and across it."""

from typing import Any

import pytest

from normlab.lab.claims.rule import Rule
from normlab.lab.claims.unit import EPOCHS, NUMBER, POINTS
from normlab.lab.statistics import Estimate

ABOVE, BELOW, WITHIN = Rule("above", 5.0), Rule("below", -4.0), Rule("within", 1.0)


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (ABOVE, 5.1, 9.0, "supported"),
        (ABOVE, 5.0, 9.0, "undecided"),  # the threshold itself is not above it
        (ABOVE, 4.0, 9.0, "undecided"),
        (ABOVE, 1.0, 5.0, "not supported"),
        (ABOVE, 5.0, 5.0, "not supported"),
        (ABOVE, None, None, "undecided"),
        (BELOW, -7.0, -4.1, "supported"),
        (BELOW, -7.0, -4.0, "undecided"),
        (BELOW, -5.0, 2.0, "undecided"),
        (BELOW, -4.0, 2.0, "not supported"),
        (BELOW, None, None, "undecided"),
        (WITHIN, -0.9, 0.9, "supported"),
        (WITHIN, -1.0, 1.0, "supported"),
        (WITHIN, -0.5, 1.1, "undecided"),
        (WITHIN, -1.1, 0.5, "undecided"),
        (WITHIN, -9.0, 9.0, "undecided"),
        (WITHIN, 1.1, 9.0, "not supported"),
        (WITHIN, -9.0, -1.1, "not supported"),
        (WITHIN, 1.0, 9.0, "undecided"),
        (WITHIN, None, None, "undecided"),
    ],
)
def test_where_the_interval_lies_decides(rule: Rule, low: Any, high: Any, verdict: str) -> None:
    mean = 0.0 if low is None else (low + high) / 2
    assert rule.verdict(Estimate(mean, low, high, 3)) == verdict


def test_the_text_says_all_three_outcomes() -> None:
    assert Rule("above", 0.0).text(EPOCHS) == (
        "supported if the 95 % interval of the effect lies above 0 epochs, not supported if it lies at or below "
        "0 epochs, else undecided"
    )
    assert BELOW.text(POINTS) == (
        "supported if the 95 % interval of the effect lies below −4 points, not supported if it lies at or above "
        "−4 points, else undecided"
    )
    assert WITHIN.text(POINTS) == (
        "supported if the 95 % interval of the effect lies within ±1 point, not supported if it lies wholly outside, "
        "else undecided"
    )


def test_a_rule_says_why_an_interval_decides_nothing() -> None:
    assert ABOVE.across(POINTS) == "the interval reaches across 5 points"
    assert WITHIN.across(POINTS) == "the interval reaches across ±1 point"
    assert Rule("above", 0.0).across(NUMBER) == "the interval reaches across 0"
