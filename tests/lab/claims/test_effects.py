"""Each effect on a few made-up runs, with numbers worked by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from normlab.lab.claims import CLAIMS
from normlab.lab.claims.convergence import best_rate
from normlab.lab.config import RunConfig
from normlab.lab.load import Results

MakeUp = Callable[..., Results]
LinesOf = Callable[..., list[dict[str, Any]]]
Lines = list[dict[str, Any]]


def effect(name: str, results: Results) -> Any:
    return pytest.approx(CLAIMS[name].effect(results))


def test_epochs_to_the_target_and_never(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Seed 0: none never (3 + 1) − batch 1 = 3; seed 1: none 2 − batch 3 = −1 (0.9 is the target itself)."""
    test = {
        ("none", 0): [0.1, 0.2, 0.3, 0.89],
        ("batch", 0): [0.1, 0.95, 0.2, 0.2],
        ("none", 1): [0.1, None, 0.9, 0.1],
        ("batch", 1): [0.1, 0.2, 0.3, 0.95],
    }
    results = made_up(
        "deep-tanh",
        ["seeds=2", "epochs=3", "norm=none,batch"],
        lambda config: lines_of(test[config.norm, config.seed]),
    )
    assert effect("faster-convergence", results) == (3.0, -1.0)


def test_each_norm_at_its_own_best_rate(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Final means: none 0.91 at 0.1 and 0.90 at 1; batch 0.5 (diverged, its worst is 0.1) at 0.1 and 0.92 at 1.

    Epochs there: none 3 and 2, batch 1 and 1.
    """
    test: dict[tuple[str, float, int], list[float | None]] = {
        ("none", 0.1, 0): [0.1, 0.5, 0.6, 0.92],
        ("none", 0.1, 1): [0.1, 0.5, 0.9, 0.90],
        ("none", 1.0, 0): [0.1, 0.9, 0.9, 0.90],
        ("none", 1.0, 1): [0.1, 0.9, 0.9, 0.90],
        ("batch", 0.1, 0): [0.1, 0.99, None],
        ("batch", 0.1, 1): [0.1, 0.99, 0.99, 0.90],
        ("batch", 1.0, 0): [0.1, 0.95, 0.9, 0.92],
        ("batch", 1.0, 1): [0.1, 0.95, 0.9, 0.92],
    }
    results = made_up(
        "learning-rate",
        ["seeds=2", "epochs=3", "norm=none,batch", "optimizer.lr=0.1,1"],
        lambda config: lines_of(test[config.norm, config.optimizer.lr, config.seed]),
        lambda config: "diverged" if test[config.norm, config.optimizer.lr, config.seed][-1] is None else "done",
    )
    assert (best_rate(results, "none"), best_rate(results, "batch")) == (0.1, 1.0)
    assert effect("faster-convergence-tuned", results) == (2.0, 1.0)


def test_of_equal_rates_the_smallest_is_best(made_up: MakeUp, lines_of: LinesOf) -> None:
    results = made_up(
        "learning-rate",
        ["seeds=1", "epochs=1", "norm=none,batch", "optimizer.lr=1,0.01,0.1"],
        lambda config: lines_of([0.1, 0.5]),
    )
    assert best_rate(results, "batch") == 0.01


def reaching(lines_of: LinesOf, reached: dict[tuple[str, int], tuple[float, ...]], key: str) -> Callable[..., Lines]:
    """Records that reach the target at the values given, by norm and seed, and diverge afterwards."""

    def records(config: RunConfig) -> Lines:
        value = {"lr": config.optimizer.lr, "scale": config.init.weight_std}[key]
        return lines_of([0.1, 0.9 if value in reached[config.norm, config.seed] else 0.8, None])

    return records


def test_the_largest_rate_in_decades(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Seed 0: batch 10, none 0.1: 2 decades. Seed 1: batch nowhere, one step (1 decade) below 0.1, none 0.1: −1.

    Layer norm: 1 against 0.1 is 1 decade, and 10 against 0.1 is 2.
    """
    reached = {
        ("none", 0): (0.1,),
        ("batch", 0): (0.1, 10.0),
        ("layer", 0): (1.0,),
        ("none", 1): (0.1,),
        ("batch", 1): (),
        ("layer", 1): (0.1, 1.0, 10.0),
    }
    results = made_up(
        "learning-rate",
        ["seeds=2", "epochs=2", "optimizer.lr=10,1,0.1"],
        reaching(lines_of, reached, "lr"),
        lambda config: "diverged",
    )
    assert effect("larger-learning-rates", results) == (2.0, -1.0)
    assert effect("larger-learning-rates-layer", results) == (1.0, 2.0)


def test_the_number_of_scales_against_twice_as_many(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Seed 0: batch 3 − 2 × 1 = 1, layer 2 − 2 = 0. Seed 1: batch 1 − 2 × 2 = −3, layer 3 − 4 = −1."""
    reached = {
        ("none", 0): (0.1,),
        ("batch", 0): (0.01, 0.1, 1.0),
        ("layer", 0): (0.1, 1.0),
        ("none", 1): (0.1, 1.0),
        ("batch", 1): (1.0,),
        ("layer", 1): (0.01, 0.1, 1.0),
    }
    results = made_up(
        "weight-scale",
        ["seeds=2", "epochs=2", "init.weight_std=0.01,0.1,1"],
        reaching(lines_of, reached, "scale"),
        lambda config: "diverged",
    )
    assert effect("less-dependence-on-initialization", results) == (1.0, -3.0)
    assert effect("less-dependence-layer", results) == (0.0, -1.0)


def test_a_sweep_with_a_run_missing_has_no_number_for_that_seed(made_up: MakeUp, lines_of: LinesOf) -> None:
    results = made_up(
        "weight-scale",
        ["seeds=2", "epochs=1", "init.weight_std=0.01,0.1,1"],
        lambda config: lines_of([0.1, 0.95 if config.norm == "batch" else 0.1]),
        lambda config: "failed" if (config.seed, config.init.weight_std) == (1, 0.01) else "done",
    )
    assert CLAIMS["less-dependence-on-initialization"].effect(results) == (3.0, None)
    assert CLAIMS["less-dependence-layer"].effect(results) == (0.0, None)


def test_the_gap_and_what_dropout_adds(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Gap without dropout: none 1 − 0.8 = 20 points; batch diverged, before that 1 − 0.85 = 15 points: 5.

    Batch norm at the end: without dropout 0.1, the worst it recorded; with it 0.9: −80.
    """

    def records(config: RunConfig) -> Lines:
        if config.norm == "none":
            return lines_of([0.1, 0.7, 0.8], train=1.0)
        if config.model.dropout:
            return lines_of([0.1, 0.95, 0.9])
        found = lines_of([0.1, 0.85, None], train=1.0)
        found[-1]["metric"]["train"]["eval"] = None
        return found

    results = made_up(
        "dropout",
        ["seeds=1", "epochs=2"],
        records,
        lambda config: "diverged" if config.norm == "batch" and not config.model.dropout else "done",
    )
    assert effect("regularization", results) == (5.0,)
    assert effect("dropout-unnecessary", results) == (-80.0,)


def test_a_run_that_diverged_counts_with_its_worst_even_if_its_last_value_is_finite(
    made_up: MakeUp, lines_of: LinesOf
) -> None:
    results = made_up(
        "bias",
        ["seeds=1", "epochs=3"],
        lambda config: lines_of([0.3, 0.2, 0.8] if config.model.bias else [0.3, 0.2, 0.5, 0.6]),
        lambda config: "diverged" if config.model.bias else "done",
    )
    assert effect("bias-is-redundant", results) == (-40.0,)  # 0.2 − 0.6


def test_batches_at_both_ends(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Batch norm 0.95 − 0.8 = 15 points, layer norm 0.94 − 0.93 = 1, group − batch at the smallest 0.96 − 0.8 = 16."""
    best = {
        ("batch", 2): 0.8,
        ("batch", 10): 0.99,
        ("batch", 200): 0.95,
        ("layer", 2): 0.93,
        ("layer", 200): 0.94,
        ("group", 2): 0.96,
    }
    results = made_up(
        "batch-size",
        ["seeds=1", "epochs=2", "batch=10,200,2"],
        lambda config: lines_of([0.1, best.get((config.norm, config.batch), 0.5), 0.3]),
    )
    assert effect("batch-norm-needs-large-batches", results) == (15.0,)
    assert effect("layer-norm-does-not", results) == (1.0,)
    assert effect("group-norm-at-the-smallest-batch", results) == (16.0,)


def test_statistics_of_evaluation(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Average − EMA: 0.95 − 0.9 = 5 points and 0.95 − 0.96 = −1. Gaps: √((9 + 16 + 0 + 0)/4) − √(4 × 0.25/4) = 2."""
    final = {0.01: 0.9, 0.1: 0.96, "average": 0.95}
    wide = {"1": {"mean": 3.0, "var": -4.0}, "2": {"mean": 0.0, "var": 0.0}}
    narrow = {layer: {"mean": 0.5, "var": 0.5} for layer in ("1", "2")}

    def records(config: RunConfig) -> Lines:
        gap = narrow if config.norm_momentum == "pooled" else wide
        found = lines_of([0.1, 0.99, final.get(config.norm_momentum, 0.5)], statistics_gap=gap)
        found[0]["statistics_gap"] = {"1": {"mean": 100.0, "var": 100.0}}  # the last epoch counts
        return found

    results = made_up("population", ["seeds=1", "epochs=2"], records)
    assert effect("average-against-ema", results) == (5.0,)
    assert effect("warmed-up-ema-is-as-good", results) == (-1.0,)
    assert effect("pooled-is-nearest", results) == (2.0,)


@pytest.mark.parametrize("gap", [{}, {"1": {"mean": 0.1, "var": None}}])
def test_a_gap_that_is_not_finite_is_none(gap: Any, made_up: MakeUp, lines_of: LinesOf) -> None:
    results = made_up("population", ["seeds=1", "epochs=1"], lambda config: lines_of([0.1, 0.9], statistics_gap=gap))
    assert CLAIMS["pooled-is-nearest"].effect(results) == (None,)


def test_the_bias(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Accuracy 0.97 − 0.96 = 1 point. The largest ratio is 2e-5 / 0.2 = 1e-4; epoch 0, the output layer and a layer
    whose weight has no gradient are left out."""

    def records(config: RunConfig) -> Lines:
        if not config.model.bias:
            return lines_of([0.1, 0.96], gradient_norm={"1": 0.1}, bias_gradient_norm={})
        weights = {"1": 0.2, "2": 1.0, "3": 0.0, "output": 1.0}
        biases = {"1": 2e-5, "2": 1e-7, "3": 0.0, "output": 0.5}
        found = lines_of([0.1, 0.97], gradient_norm=weights, bias_gradient_norm=biases)
        found[0]["bias_gradient_norm"] = {"1": 1.0}
        return found

    results = made_up("bias", ["seeds=1", "epochs=1"], records)
    assert effect("bias-is-redundant", results) == (1.0,)
    assert effect("bias-has-no-gradient", results) == (-4.0,)


def test_a_bias_gradient_of_zero_has_a_logarithm(made_up: MakeUp, lines_of: LinesOf) -> None:
    results = made_up(
        "bias",
        ["seeds=1", "epochs=1"],
        lambda config: lines_of([0.1, 0.9], gradient_norm={"1": 1.0}, bias_gradient_norm={"1": 0.0}),
    )
    assert effect("bias-has-no-gradient", results) == (-12.0,)


def test_statistics_that_are_never_updated(made_up: MakeUp, lines_of: LinesOf) -> None:
    results = made_up(
        "volumes",
        ["seeds=1", "epochs=2"],
        lambda config: lines_of([0.2, 0.9, 0.85 if config.norm_momentum else 0.25]),
    )
    assert effect("training-flag", results) == (60.0,)


def test_a_metric_that_is_to_be_small(made_up: MakeUp, lines_of: LinesOf) -> None:
    """Squared errors, target 10: none arrives in epoch 2 and diverges, batch in epoch 1."""
    results = made_up(
        "deep-tanh",
        ["seeds=1", "epochs=3", "norm=none,batch", "data=curve", "target=10"],
        lambda config: lines_of([50.0, 9.0, 30.0, 20.0] if config.norm == "batch" else [50.0, 20.0, 10.0, None]),
        lambda config: "done" if config.norm == "batch" else "diverged",
    )
    assert effect("faster-convergence", results) == (1.0,)
