import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.reference.torch_check import assert_near
from tests.tolerances import TORCH

from normlab import errors
from normlab.reference import batch_norm_statistics, update_running

seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 1.0])
def test_several_batches_are_those_of_torch(momentum: float) -> None:
    rng = np.random.default_rng(0)
    layer = torch.nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
    mean, var = np.zeros(3), np.ones(3)
    for size in (2, 7, 16):
        x = 1e3 + rng.standard_normal((size, 3, 5))
        layer(torch.tensor(x))
        mean, var = update_running(mean, var, *batch_norm_statistics(x), momentum=momentum)
    assert_near(mean, layer.running_mean, TORCH * 1e3)
    assert_near(var, layer.running_var, TORCH)


def test_one_value_updates_the_mean_and_leaves_the_variance() -> None:
    """torch refuses such a batch, so there is nothing to compare with."""
    statistics = batch_norm_statistics(np.array([[4.0]]))
    mean, var = update_running(np.zeros(1), np.array([3.0]), *statistics, momentum=0.25)
    assert (mean.item(), var.item()) == (1.0, 3.0)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        torch.nn.BatchNorm1d(1)(torch.full((1, 1), 4.0))


def test_momentum_0_never_moves_them_not_even_for_a_batch_that_is_not_finite() -> None:
    mean, var = update_running(
        np.ones(2), np.full(2, 3.0), np.array([np.nan, 1.0]), np.full(2, np.inf), 5, momentum=0.0
    )
    assert mean.tolist() == [1, 1]
    assert var.tolist() == [3, 3]


def test_the_arguments_are_left_alone() -> None:
    mean, var = np.zeros(2), np.ones(2)
    for count, momentum in ((1, 0.1), (2, 0.1), (2, 0.0)):
        new_mean, new_var = update_running(mean, var, np.ones(2), np.ones(2), count, momentum=momentum)
        new_mean[:] = new_var[:] = -1
    assert mean.tolist() == [0, 0]
    assert var.tolist() == [1, 1]


def test_all_problems_are_raised_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        update_running(np.zeros(2), np.ones(3), np.zeros(2), np.ones(1), 0, momentum=1.5)
    assert (
        str(raised.value)
        == """\
update_running: `running_var` must have shape (2,), that of `running_mean`.
  got: running_var (3,) float64
  fix: pass an array of shape (2,).
update_running: `var` must have shape (2,), that of `running_mean`.
  got: var (1,) float64
  fix: pass an array of shape (2,).
update_running: `count` must be at least 1.
  got: count = 0
update_running: `momentum` must lie in [0, 1].
  got: momentum = 1.5
  fix: momentum is the weight of the new batch; keep-momentum 0.9 is momentum=0.1."""
    )


RULES = {"ema": {}, "debiased": {"steps": 2}, "cumulative": {"steps": 2}, "population": {"values": 5}}
each_rule = pytest.mark.parametrize("rule", RULES)


def batches(seed: int, sizes: tuple[int, ...], mean: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [mean + rng.standard_normal(2) + rng.standard_normal((n, 2)) for n in sizes]


def after(parts: list[np.ndarray], rule: str, momentum: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Running statistics that begin with what must not be seen, 1e3 and 1e6."""
    running, values = (np.full(2, 1e3), np.full(2, 1e6)), 0
    for steps, x in enumerate(parts, start=1):
        *statistics, count = batch_norm_statistics(x)
        running = update_running(*running, *statistics, count, momentum=momentum, rule=rule, steps=steps, values=values)
        values += count
    return running


@pytest.mark.parametrize("momentum", [0.01, 0.3, 1.0])
def test_three_debiased_commits_are_adams_average(momentum: float) -> None:
    """It starts at 0, and is divided by the weight that has been given away, 1 − (1 − momentum)ᵗ."""
    parts = batches(0, (4, 9, 2))
    average = np.zeros((2, 2))
    for x in parts:
        mean, var, n = batch_norm_statistics(x)
        average = (1 - momentum) * average + momentum * np.stack([mean, var * n / (n - 1)])
    expected = average / (1 - (1 - momentum) ** 3)
    assert_near(np.stack(after(parts, "debiased", momentum)), expected, TORCH)


def test_a_debiased_commit_worked_by_hand() -> None:
    """With momentum ½ the second of two batches weighs ½ / (1 − ¼) = 2/3; the variance of 2 values is doubled."""
    mean, var = update_running(
        np.array([3.0]), np.array([6.0]), np.array([9.0]), np.array([6.0]), 2, momentum=0.5, rule="debiased", steps=2
    )
    assert_near(mean, np.array([7.0]), TORCH)
    assert_near(var, np.array([10.0]), TORCH)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=seeds, momentum=st.floats(1e-9, 1), commits=st.integers(1, 20))
def test_debiased_of_the_same_batch_is_that_batch_from_the_first_commit_on(
    seed: int, momentum: float, commits: int
) -> None:
    (x,) = batches(seed, (5,))
    mean, var, n = batch_norm_statistics(x)
    first = after([x], "debiased", momentum)
    assert np.array_equal(first, (mean, var * (n / (n - 1))))
    for ours, theirs in zip(after([x] * commits, "debiased", momentum), first, strict=True):
        assert_near(ours, theirs, TORCH)


def test_debiased_with_a_momentum_near_0_is_cumulative() -> None:
    parts = batches(1, (4, 9, 2, 2))
    assert_near(np.stack(after(parts, "debiased", 1e-13)), np.stack(after(parts, "cumulative")), TORCH)


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_cumulative_is_torch_with_momentum_none(mean: float) -> None:
    layer, parts = torch.nn.BatchNorm1d(2, momentum=None, dtype=torch.float64), batches(2, (4, 9, 2), mean)
    for x in parts:
        layer(torch.tensor(x))
    running = after(parts, "cumulative")
    assert_near(running[0], layer.running_mean, TORCH * max(1.0, mean))
    assert_near(running[1], layer.running_var, TORCH * max(1.0, mean))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=seeds,
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 1),
    mean=st.sampled_from([0.0, 1e6]),
)
def test_population_is_the_statistics_of_all_data_at_once(seed: int, sizes: list[int], mean: float) -> None:
    """Ragged batches and all, single values too; the data of the truth have no large mean to be rounded with."""
    parts = batches(seed, tuple(sizes), mean)
    running = after(parts, "population")
    all_data = np.concatenate(parts)
    atol = TORCH * max(1.0, mean)
    assert_near(running[0], all_data.mean(axis=0), atol)
    truth = (all_data - mean).var(axis=0, ddof=1)
    assert_near(running[1], truth, atol * max(1.0, truth.max()))


def test_population_of_a_single_value_has_no_variance_yet() -> None:
    """The one it began with stays for show, and is forgotten with the second value."""
    start = np.zeros(1), np.full(1, 7.0)
    one = update_running(*start, np.array([4.0]), np.zeros(1), 1, rule="population", values=0)
    assert [a.item() for a in one] == [4, 7]
    two = update_running(*one, np.array([6.0]), np.zeros(1), 1, rule="population", values=1)
    assert [a.item() for a in two] == [5, 2]


def test_alternating_domains_where_an_average_of_variances_is_wrong() -> None:
    """Means 0 and 10, as on a row of `hazards.md`: within the batches the variance is 1, over the population 26."""
    parts = [10 * (n % 2) + x for n, x in enumerate(batches(3, (32,) * 8))]
    truth = np.concatenate(parts).var(axis=0, ddof=1)
    assert (truth > 20).all()
    assert_near(after(parts, "population")[1], truth, TORCH * truth.max())
    assert (after(parts, "cumulative")[1] < 2).all()


@each_rule
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["mean", "var"])
def test_what_is_not_finite_is_skipped_as_a_whole(rule: str, junk: float, which: str) -> None:
    """One channel is enough: the other one's statistics come from the same batch."""
    mean, var, count = batch_norm_statistics(batches(4, (5,))[0])
    spoilt = {"mean": mean, "var": var} | {which: np.array([1.0, junk])}
    start = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    found = update_running(*start, spoilt["mean"], spoilt["var"], count, rule=rule, **RULES[rule])
    assert np.array_equal(found, start)
    assert not any(new is old for new, old in zip(found, start, strict=True))


@each_rule
def test_a_variance_that_becomes_infinite_when_it_is_made_unbiased_is_skipped(rule: str) -> None:
    start = np.zeros(1), np.ones(1)
    found = update_running(*start, np.zeros(1), np.array([1.7e308]), 2, rule=rule, **RULES[rule])
    assert np.array_equal(found, start)


def test_a_finite_batch_after_one_that_was_not_is_committed_as_if_it_had_been_the_only_one() -> None:
    x, y = batches(5, (5, 6))
    inf = np.where(np.arange(5)[:, None] == 0, np.inf, x)
    with np.errstate(invalid="ignore"):
        spoilt = batch_norm_statistics(inf)
    running = np.zeros(2), np.ones(2)
    once = update_running(*running, *batch_norm_statistics(y))
    assert np.array_equal(update_running(*update_running(*running, *spoilt), *batch_norm_statistics(y)), once)


@each_rule
def test_one_value_updates_the_mean_by_any_rule(rule: str) -> None:
    mean, var = update_running(np.zeros(1), np.full(1, 3.0), np.full(1, 4.0), np.zeros(1), 1, rule=rule, **RULES[rule])
    assert mean > 0
    # five values of variance 3 around 0 and one at 4: Σ (x − 2/3)² = 12 + 5 · (2/3)² + (10/3)², over 5
    assert_near(var, np.array([(12 + 20 / 9 + 100 / 9) / 5 if rule == "population" else 3.0]), TORCH)


@pytest.mark.parametrize("rule", ["ema", "debiased"])
def test_momentum_0_never_moves_them_by_either_average(rule: str) -> None:
    found = update_running(np.zeros(1), np.ones(1), np.ones(1), np.ones(1), 5, momentum=0.0, rule=rule, steps=1)
    assert [a.item() for a in found] == [0, 1]


RULE_ERRORS = [
    (
        {"rule": "cummulative"},
        """\
update_running: `rule` must be one of ema, debiased, cumulative, population.
  got: rule = 'cummulative'
  fix: did you mean `cumulative`?""",
    ),
    (
        {"rule": "debiased"},
        """\
update_running: `steps` must be at least 1 for the rule debiased.
  got: steps = None
  fix: pass the number of commits before this one, plus 1.""",
    ),
    (
        {"rule": "cumulative", "steps": 0, "momentum": 2.0},
        """\
update_running: `momentum` must lie in [0, 1].
  got: momentum = 2.0
  fix: momentum is the weight of the new batch; keep-momentum 0.9 is momentum=0.1.
update_running: `steps` must be at least 1 for the rule cumulative.
  got: steps = 0
  fix: pass the number of commits before this one, plus 1.""",
    ),
    (
        {"rule": "population", "values": -1},
        """\
update_running: `values` must be at least 0 for the rule population.
  got: values = -1
  fix: pass the number of values behind the running statistics, 0 at the start.""",
    ),
]


@pytest.mark.parametrize(("how", "text"), RULE_ERRORS)
def test_problems_of_a_rule(how: dict, text: str) -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        update_running(np.zeros(1), np.ones(1), np.zeros(1), np.ones(1), 2, **how)
    assert str(raised.value) == text
