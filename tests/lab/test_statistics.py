import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.lab.metric import METRICS, Metric
from normlab.lab.statistics import Estimate, estimate, paired_difference

# Student's t at 97.5 % from a printed table, three decimals: what it says is right to half of the last one
T = {1: 12.706, 2: 4.303, 4: 2.776}
TABLE = 0.0005


def test_an_interval_worked_by_hand() -> None:
    """1, 2, 6: mean 3, variance (4 + 1 + 9) / 2 = 7, standard error √(7/3)."""
    found = estimate([1.0, 2.0, 6.0])
    assert found is not None
    error = math.sqrt(7 / 3)
    assert (found.mean, found.count) == (3.0, 3)
    assert abs((found.high - found.mean) / error - T[2]) <= TABLE
    assert abs((found.mean - found.low) / error - T[2]) <= TABLE


def test_five_seeds_worked_by_hand() -> None:
    """0 … 4: mean 2, variance 10 / 4, standard error √(1/2)."""
    found = estimate([0.0, 1.0, 2.0, 3.0, 4.0])
    assert found is not None
    assert abs((found.high - 2) / math.sqrt(0.5) - T[4]) <= TABLE


def test_no_value_says_nothing_and_one_has_no_interval() -> None:
    assert estimate([]) is None
    assert estimate([0.5]) == Estimate(0.5, None, None, 1)


def test_no_spread_is_an_interval_of_no_width() -> None:
    assert estimate([0.25, 0.25, 0.25]) == Estimate(0.25, 0.25, 0.25, 3)


def test_values_that_differ_by_rounding_alone_are_said_without_a_warning() -> None:
    """Accuracies are counts over 360: equal differences of them are seldom equal to the bit."""
    b = [23, 11, 18, 26, 25]
    pairs = [(count + 297) / 360 for count in b], [count / 360 for count in b]
    assert len({x - y for x, y in zip(*pairs, strict=True)}) > 1
    found = paired_difference(*pairs)
    assert found is not None
    # each difference is off by at most an ulp of 1; so is their deviation, times 2.776 / √5
    assert abs(found.low - 297 / 360) < 4 * 2**-52
    assert abs(found.high - 297 / 360) < 4 * 2**-52


def test_pairs_without_a_value_are_left_out() -> None:
    """Differences 1 and 3: mean 2, standard error 1."""
    found = paired_difference([2.0, None, 9.0, 5.0], [1.0, 3.0, None, 2.0])
    assert found is not None
    assert (found.mean, found.count) == (2.0, 2)
    assert abs((found.high - found.mean) - T[1]) <= TABLE
    assert paired_difference([None, 1.0], [1.0, None]) is None


def test_pairing_takes_out_what_the_seeds_share() -> None:
    """Seeds differ by 100, the variants always by about 1."""
    found = paired_difference([101.0, 202.1, 300.9], [100.0, 201.0, 300.0])
    assert found is not None
    assert found.low > 0


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than"):
        paired_difference([1.0, 2.0], [1.0])


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=8, unique=True), st.integers(-1000, 1000))
@settings(max_examples=50, deadline=None)
def test_the_interval_is_symmetric_and_moves_with_the_values(values: list[int], shift: int) -> None:
    found, moved = estimate([float(v) for v in values]), estimate([float(v + shift) for v in values])
    assert found is not None
    assert moved is not None
    # numbers up to 2,000 times t up to 12.7: some roundings of 2⁻⁵² each
    bound = 16 * 2.0**-52 * 2000 * 12.7
    assert abs((found.high - found.mean) - (found.mean - found.low)) <= bound
    assert abs(moved.mean - found.mean - shift) <= bound
    assert abs((moved.high - moved.low) - (found.high - found.low)) <= bound
    assert found.low < found.mean < found.high


def test_better_depends_on_the_goal() -> None:
    accuracy, error = METRICS["classification"], METRICS["regression"]
    assert (accuracy.goal, error.goal) == ("max", "min")
    assert accuracy.better(0.9, 0.8)
    assert not accuracy.better(0.8, 0.8)
    assert error.better(0.8, 0.9)
    assert accuracy.reached(0.9, 0.9)
    assert not accuracy.reached(0.89, 0.9)
    assert error.reached(200.0, 200.0)
    assert not error.reached(201.0, 200.0)


def test_a_metric_is_said_as_a_reader_sees_it() -> None:
    percent, plain = Metric("accuracy", "max", percent=True), Metric("loss", "min", percent=False)
    assert [percent.text(v) for v in (0.0, 0.97222, 1.0)] == ["0.0 %", "97.2 %", "100.0 %"]
    assert [plain.text(v) for v in (0.0, 693.04, 0.01234, 9999.0, 10000.0, 3.5e7)] == [
        "0",
        "693",
        "0.0123",
        "1e+04",
        "1.00e+04",
        "3.50e+07",
    ]
