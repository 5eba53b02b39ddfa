"""Judgements on made-up records, with intervals worked by hand.

Student's t at 97.5 %: 12.706 with 1 degree of freedom, 4.303 with 2.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from normlab.lab.claims import CLAIMS, judge
from normlab.lab.config import RunConfig
from normlab.lab.load import Results
from normlab.lab.recipe import with_words
from normlab.lab.recipes import RECIPES

MakeUp = Callable[..., Results]
LinesOf = Callable[..., list[dict[str, Any]]]
SIZE = ["epochs=9", "norm=none,batch"]


@pytest.fixture
def converging(made_up: MakeUp, lines_of: LinesOf) -> Callable[..., Results]:
    """A deep-tanh comparison in which each run reaches the target in the epoch given, by norm and seed."""

    def make(none: Sequence[int], batch: Sequence[int], state: Any = lambda config: "done") -> Results:
        def records(config: RunConfig) -> list[dict[str, Any]]:
            first = {"none": none, "batch": batch}[config.norm][config.seed]
            return lines_of([0.95 if epoch >= first else 0.1 for epoch in range(config.epochs + 1)])

        return made_up("deep-tanh", [f"seeds={len(none)}", *SIZE], records, state)

    return make


def test_supported(converging: Callable[..., Results]) -> None:
    """Effects 4, 5, 6: mean 5, standard error 1/√3, so 5 ± 4.303 × 0.5774 = 5 ± 2.484."""
    found = judge(CLAIMS["faster-convergence"], converging([6, 7, 8], [2, 2, 2]))
    assert (found.verdict, found.reason) == ("supported", "")
    assert found.values == (4.0, 5.0, 6.0)
    assert found.seeds == (0, 1, 2)
    assert found.effect is not None
    assert (found.effect.mean, found.effect.low, found.effect.high) == pytest.approx((5, 2.516, 7.484), abs=1e-3)
    assert found.text() == "+5.0 epochs [+2.5, +7.5]"


def test_not_supported(converging: Callable[..., Results]) -> None:
    found = judge(CLAIMS["faster-convergence"], converging([2, 2, 2], [6, 7, 8]))
    assert (found.verdict, found.reason) == ("not supported", "")
    assert found.text() == "−5.0 epochs [−7.5, −2.5]"


def test_the_effect_is_paired_within_the_seed(converging: Callable[..., Results]) -> None:
    """Epochs that vary much between seeds, and the same difference in each: no width."""
    found = judge(CLAIMS["faster-convergence"], converging([3, 6, 9], [2, 5, 8]))
    assert found.verdict == "supported"
    assert found.text() == "+1.0 epochs [+1.0, +1.0]"


def test_an_effect_of_exactly_the_threshold_does_not_support(converging: Callable[..., Results]) -> None:
    found = judge(CLAIMS["faster-convergence"], converging([3, 4], [3, 4]))
    assert (found.verdict, found.text()) == ("not supported", "+0.0 epochs [+0.0, +0.0]")


def test_undecided_if_the_interval_reaches_across(converging: Callable[..., Results]) -> None:
    """Effects 1 and 3: 2 ± 12.706."""
    found = judge(CLAIMS["faster-convergence"], converging([4, 6], [3, 3]))
    assert (found.verdict, found.reason) == ("undecided", "the interval reaches across 0 epochs")
    assert found.text() == "+2.0 epochs [−10.7, +14.7]"


def test_one_seed_gives_no_interval(converging: Callable[..., Results]) -> None:
    found = judge(CLAIMS["faster-convergence"], converging([6], [2]))
    assert (found.verdict, found.reason) == ("undecided", "one seed gives no interval")
    assert found.text() == "+4.0 epochs"


@pytest.mark.parametrize("state", ["planned", "running", "failed", "interrupted"])
def test_unfinished_runs_leave_it_undecided_whatever_the_others_say(
    state: str, converging: Callable[..., Results]
) -> None:
    results = converging(
        [8, 8, 8], [2, 2, 2], lambda config: state if (config.norm, config.seed) == ("batch", 1) else "done"
    )
    found = judge(CLAIMS["faster-convergence"], results)
    assert (found.verdict, found.reason) == ("undecided", "1 of 6 runs have not finished")
    assert found.values == (6.0, None, 6.0)
    assert found.text() == "+6.0 epochs [+6.0, +6.0]"


def test_runs_that_the_claim_does_not_use_may_be_unfinished(made_up: MakeUp, lines_of: LinesOf) -> None:
    results = made_up(
        "deep-tanh",
        ["seeds=2", "epochs=2"],
        lambda config: lines_of([0.1, 0.95 if config.norm == "batch" else 0.1, 0.95]),
        lambda config: "failed" if config.norm == "layer" else "done",
    )
    assert judge(CLAIMS["faster-convergence"], results).verdict == "supported"


def test_a_diverged_run_counts_as_one_that_never_arrives(converging: Callable[..., Results]) -> None:
    """Never is 9 + 1, less 2: 8 in each seed."""
    results = converging([99, 99], [2, 2], lambda config: "diverged" if config.norm == "none" else "done")
    found = judge(CLAIMS["faster-convergence"], results)
    assert (found.verdict, found.text()) == ("supported", "+8.0 epochs [+8.0, +8.0]")


def test_nothing_is_known_of_reaching_a_target_that_no_run_reaches(converging: Callable[..., Results]) -> None:
    found = judge(CLAIMS["faster-convergence"], converging([99, 99], [99, 99]))
    assert (found.verdict, found.reason) == ("undecided", "no run reaches the target")
    assert found.text() == "+0.0 epochs [+0.0, +0.0]"
    assert found.claim.rule_text() == (
        "supported if the 95 % interval of the effect lies above 0 epochs, not supported if it lies at or below "
        "0 epochs, else undecided; undecided too if no run reaches the target"
    )


def test_no_run_at_all(converging: Callable[..., Results]) -> None:
    found = judge(CLAIMS["faster-convergence"], converging([1, 1], [1, 1], lambda config: "planned"))
    assert (found.verdict, found.reason) == ("undecided", "4 of 4 runs have not finished")
    assert (found.effect, found.text()) == (None, "–")


def test_seeds_without_a_finite_value(made_up: MakeUp, lines_of: LinesOf) -> None:
    results = made_up("bias", ["seeds=2", "epochs=1"], lambda config: lines_of([0.1, 0.9], gradient_norm={}))
    found = judge(CLAIMS["bias-has-no-gradient"], results)
    assert (found.verdict, found.reason) == ("undecided", "2 of 2 seeds have no finite value")


@pytest.mark.parametrize(
    ("claim", "words", "reason"),
    [
        ("faster-convergence", ["norm=none,layer"], "it needs runs with norm=batch"),
        ("dropout-unnecessary", ["model.dropout=0,0.5"], "it needs runs with model.dropout=0.75"),
        ("bias-is-redundant", ["model.bias=true"], "it needs runs with model.bias=false"),
        ("faster-convergence", ["batch=8,16"], "it needs one value of batch, not 2"),
        ("larger-learning-rates", ["optimizer.lr=0.1"], "it needs several values of optimizer.lr"),
        ("bias-is-redundant", ["data=curve"], "it is about percentages, and the metric is mean squared error"),
    ],
)
def test_a_recipe_that_does_not_fit_decides_nothing(
    claim: str, words: list[str], reason: str, made_up: MakeUp, lines_of: LinesOf
) -> None:
    results = made_up(CLAIMS[claim].recipe, ["seeds=2", "epochs=1", *words], lambda config: lines_of([0.1, 0.9]))
    found = judge(CLAIMS[claim], results)
    assert (found.verdict, found.effect, found.reason) == ("undecided", None, reason)
    assert found.values == (None, None)


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_fits_its_recipe_quick_and_full(name: str) -> None:
    claim = CLAIMS[name]
    recipe = RECIPES[claim.recipe]
    assert claim.misfit(recipe) == ""
    assert claim.misfit(with_words(recipe, recipe.quick)) == ""


@pytest.mark.parametrize("name", CLAIMS)
def test_every_claim_is_one_sentence_with_a_source(name: str) -> None:
    claim = CLAIMS[name]
    assert claim.name == name
    assert claim.statement.endswith(".")
    assert claim.statement.count(". ") == 0
    assert re.search(r"\bS[0-4]\b", claim.source) or "Wu & He 2018" in claim.source
    assert claim.measured[0].islower() or claim.measured.startswith("log10")
    assert not claim.measured.endswith(".")


def test_a_claim_of_the_users_own(converging: Callable[..., Results]) -> None:
    mine = replace(CLAIMS["faster-convergence"], name="mine", effect=lambda results: (1.0, 1.0))
    assert judge(mine, converging([1, 1], [9, 9])).verdict == "supported"
