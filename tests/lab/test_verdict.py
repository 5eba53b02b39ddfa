"""Whole sentences, from rows written by hand."""

from pathlib import Path

from normlab.lab import RECIPES, Results, Run, planned_runs, with_words
from normlab.lab.metric import METRICS
from normlab.lab.record import Status
from normlab.lab.statistics import estimate
from normlab.lab.verdict import VariantSummary, pairing, ranking, verdict

ACCURACY, ERROR = METRICS["classification"], METRICS["regression"]


def row(name: str, *values: float | None, diverged: int = 0, unfinished: int = 0) -> VariantSummary:
    found = estimate([value for value in values if value is not None])
    interval = (found.mean, found.low, found.high) if found else (None, None, None)
    return VariantSummary(name, {"norm": name}, values, *interval, None, None, diverged, unfinished)


def test_a_clear_winner() -> None:
    """Differences 40, 50, 60 points: 50 ± 4.303 · 10 / √3 = 50 ± 24.8."""
    said = verdict([row("none", 0.5, 0.4, 0.3), row("batch", 0.9, 0.9, 0.9)], ACCURACY)
    assert said == (
        "batch wins with test accuracy 90.0 %: 50.0 points above none (25.2 to 74.8). "
        "Intervals are 95 %, paired over 3 seeds."
    )


def test_a_lead_that_may_be_chance() -> None:
    """Over layer 1, 2, 3 points: 2 ± 4.303 · 1 / √3 = 2 ± 2.5."""
    rows = [row("none", 0.5, 0.4, 0.3), row("batch", 0.9, 0.9, 0.9), row("layer", 0.89, 0.88, 0.87)]
    assert verdict(rows, ACCURACY) == (
        "batch leads with test accuracy 90.0 %, not clear of all others: "
        "2.0 points above layer (-0.5 to 4.5, so perhaps by chance); 50.0 points above none (25.2 to 74.8). "
        "Intervals are 95 %, paired over 3 seeds."
    )


def test_the_smaller_error_wins() -> None:
    """Differences 600, 601: 600.5 ± 12.706 · 0.5 = 600.5 ± 6.35; then 500, 700: 600 ± 12.706 · 100."""
    rows = [row("none", 690.0, 691.0), row("batch", 90.0, 90.0)]
    assert verdict(rows, ERROR) == (
        "batch wins with test mean squared error 90: 600 below none (594 to 607). "
        "Intervals are 95 %, paired over 2 seeds."
    )
    rows = [row("none", 590.0, 790.0), row("batch", 90.0, 90.0)]
    assert verdict(rows, ERROR) == (
        "batch leads with test mean squared error 90, not clear of all others: "
        "600 below none (-671 to 1.87e+03, so perhaps by chance). Intervals are 95 %, paired over 2 seeds."
    )


def test_one_seed_gives_no_interval() -> None:
    assert verdict([row("none", 0.1), row("batch", 0.9)], ACCURACY) == (
        "batch is ahead with test accuracy 90.0 %: 80.0 points above none. One seed gives no interval: add seeds=5."
    )


def test_one_variant_wins_over_nobody() -> None:
    assert verdict([row("batch", 0.9, 0.8)], ACCURACY) == "batch ends at test accuracy 85.0 %."


def test_equal_results_are_nobodys_win() -> None:
    assert verdict([row("a", 0.5, 0.5), row("b", 0.5, 0.5)], ACCURACY) == (
        "a leads with test accuracy 50.0 %, not clear of all others: "
        "level with b on every seed. Intervals are 95 %, paired over 2 seeds."
    )


def test_what_diverged_is_said() -> None:
    rows = [row("none", None, None, diverged=2), row("batch", 0.9, 0.9)]
    assert verdict(rows, ACCURACY) == "batch ends at test accuracy 90.0 %. none diverged on 2 of 2 seeds."


def test_what_did_not_finish_is_said() -> None:
    rows = [row("none", 0.1, None, unfinished=1), row("batch", 0.9, 0.9)]
    assert verdict(rows, ACCURACY) == (
        "batch is ahead with test accuracy 90.0 %: 80.0 points above none. One seed gives no interval: add seeds=5. "
        "none: 1 of 2 runs have not finished."
    )


def test_nothing_finished_is_said() -> None:
    rows = [row("none", None, unfinished=1), row("batch", None, diverged=1)]
    assert verdict(rows, ACCURACY) == (
        "No run ended with a test accuracy. none: 1 of 1 runs have not finished. batch diverged on 1 of 1 seeds."
    )


def test_no_seed_in_common() -> None:
    rows = [row("a", 0.9, None, unfinished=1), row("b", None, 0.5, unfinished=1)]
    assert verdict(rows, ACCURACY).startswith("a is ahead with test accuracy 90.0 %: no seed in common with b.")


def test_survivors_do_not_flatter() -> None:
    rows = [row("risky", 0.99, None, None, diverged=2), row("safe", 0.9, 0.9, 0.9)]
    assert [each.name for each in ranking(rows, ACCURACY)] == ["safe", "risky"]


def test_a_safe_variant_wins_and_what_it_is_below_is_said() -> None:
    """Differences −9 and −8 points: −8.5 ± 12.706 · 0.5."""
    rows = [row("risky", 0.99, 0.98, None, diverged=1), row("safe", 0.9, 0.9, 0.9)]
    assert verdict(rows, ACCURACY) == (
        "safe wins with test accuracy 90.0 %: 8.5 points below risky (2.1 to 14.9). "
        "Intervals are 95 %, paired over 2 seeds. risky diverged on 1 of 3 seeds."
    )


def test_no_interval_reaches_beyond_what_is_possible() -> None:
    """Differences 90 and 50 points: 70 ± 12.706 · 20."""
    assert verdict([row("none", 0.1, 0.5), row("batch", 1.0, 1.0)], ACCURACY) == (
        "batch leads with test accuracy 100.0 %, not clear of all others: "
        "70.0 points above none (-100.0 to 100.0, so perhaps by chance). Intervals are 95 %, paired over 2 seeds."
    )


def test_the_best_comes_first_whatever_the_goal() -> None:
    rows = [row("a", 0.2), row("b", 0.9), row("c", None, unfinished=1), row("d", 0.5)]
    assert [each.name for each in ranking(rows, ACCURACY)] == ["b", "d", "a"]
    assert [each.name for each in ranking(rows, ERROR)] == ["a", "d", "b"]


def results(*words: str, **hashes: list[tuple[str, str, str]]) -> Results:
    """Runs with states and hashes written by hand: for each variant one (state, weights, order) a seed."""
    recipe = with_words(RECIPES["deep-tanh"], ["norm=" + ",".join(hashes), "seeds=2", *words])
    runs = tuple(
        Run(Path(plan.folder), plan.variant, plan.config, Status(state, 1, 1, "", weights, order))  # type: ignore[arg-type]
        for plan in planned_runs(recipe)
        for state, weights, order in [hashes[plan.config.norm][plan.config.seed]]
    )
    return Results(Path(), recipe, runs)


DONE = [("done", "w0", "o0"), ("done", "w1", "o1")]


def test_what_was_paired_is_said() -> None:
    assert pairing(results(none=DONE, batch=DONE)) == (
        "Checked: in 2 seeds, all variants started from bit-identical weights and saw the same batches."
    )


def test_one_seed_is_paired_too() -> None:
    one = results("seeds=1", none=DONE, batch=DONE)
    assert pairing(one) == (
        "Checked: in the one seed, all variants started from bit-identical weights and saw the same batches."
    )


def test_batches_of_runs_that_all_diverged_are_not_claimed_to_be_the_same() -> None:
    lost = [("diverged", "w0", "o0"), ("diverged", "w1", "x1")]
    assert pairing(results(none=lost, batch=lost)) == (
        "Checked: in 2 seeds, all variants started from bit-identical weights; none came to its end."
    )


def test_one_variant_has_nothing_to_pair() -> None:
    assert pairing(results(none=DONE)) == "One variant: nothing to pair."


def test_what_differs_is_said() -> None:
    other = [("done", "w0", "o0"), ("done", "x1", "p1")]
    assert pairing(results(none=DONE, batch=other)) == (
        "Not fully paired: initial weights differ in 1 of 2 seeds and batches differ in 1 of 2 seeds; "
        "a difference between variants may come from that too."
    )
    other = [("done", "x0", "o0"), ("done", "x1", "o1")]
    assert pairing(results(none=DONE, batch=other)) == (
        "Not fully paired: initial weights differ in 2 of 2 seeds; "
        "a difference between variants may come from that too."
    )


def test_a_diverged_run_saw_fewer_batches_and_that_is_no_difference() -> None:
    other = [("diverged", "w0", "o"), ("done", "w1", "o1")]
    assert pairing(results(none=DONE, batch=other)).startswith("Checked: in 2 seeds")


def test_what_did_not_run_was_not_checked() -> None:
    planned = [("planned", "", ""), ("planned", "", "")]
    assert pairing(results(none=planned, batch=planned)) == "No run has begun, so nothing was checked."
    assert pairing(results(none=DONE, batch=planned)) == "No two runs share a seed, so nothing was checked."


def test_a_run_that_failed_before_its_first_measurement_does_not_differ() -> None:
    failed = [("failed", "", ""), ("done", "w1", "o1")]
    assert pairing(results(none=DONE, batch=failed)) == (
        "Only 3 of 4 runs began; among them, those of one seed started from bit-identical weights and saw the same "
        "batches."
    )


def test_other_batch_sizes_are_other_batches() -> None:
    """The order of the samples is the same and so is its hash, but not what a step sees."""
    two = results("batch=32,64", none=DONE)
    assert pairing(two) == (
        "Not fully paired: batches differ in 2 of 2 seeds; a difference between variants may come from that too."
    )


def test_many_variants_are_named_from_the_nearest_on() -> None:
    rows = [row(f"v{number}", number / 10, number / 10) for number in range(1, 8)]
    said = verdict(rows, ACCURACY)
    assert said.endswith(
        "40.0 points above v3 (40.0 to 40.0); and 2 more variants behind these. "
        "Intervals are 95 %, paired over 2 seeds."
    )
    assert "v2" not in said
