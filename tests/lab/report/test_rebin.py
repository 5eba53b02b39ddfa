import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.lab.grid import BINS, EDGES, Histogram
from normlab.lab.report.rebin import CELLS, SUPPORT, axis_range, central_range, rebin


def normal(std: float = 1.0, mean: float = 0.0, total: int = 10**7) -> Histogram:
    """Counts of a normal distribution, exact but for rounding."""
    below = np.array([0.5 * (1 + math.erf((edge - mean) / (std * math.sqrt(2)))) for edge in EDGES])
    return Histogram(np.rint(total * np.diff(below)).astype(np.int64))


def one_bin(index: int, count: int = 100) -> Histogram:
    counts = np.zeros(BINS, dtype=np.int64)
    counts[index] = count
    return Histogram(counts)


@given(
    counts=st.lists(st.integers(0, 10_000), min_size=BINS, max_size=BINS).map(np.array),
    ends=st.tuples(st.floats(-50, 49), st.floats(0.5, 80)),
    extra=st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
    support=st.sampled_from([(-np.inf, np.inf), *SUPPORT.values()]),
)
def test_no_value_is_lost(
    counts: np.ndarray, ends: tuple[float, float], extra: tuple[int, int, int], support: tuple[float, float]
) -> None:
    counted = Histogram(counts, *extra)
    strip = rebin(counted, (ends[0], ends[0] + ends[1]), support)
    total = float(strip.shares.sum()) + strip.outside + strip.nonfinite
    assert total == pytest.approx(1.0 if counted.total() else 0.0, abs=1e-9)
    assert strip.shares.min() >= 0
    assert strip.outside >= -1e-9


def test_a_uniform_distribution_has_the_same_share_in_every_cell() -> None:
    widths = np.diff(np.clip(EDGES, -5, 5))
    strip = rebin(Histogram(np.rint(1e9 * widths / 10).astype(np.int64)), (-2.0, 2.0))
    np.testing.assert_allclose(strip.shares, 0.4 / CELLS, rtol=1e-6)


def test_a_normal_distribution_is_drawn_as_one_hump_of_the_right_height() -> None:
    strip = rebin(normal(), (-4.0, 4.0), cells=16)
    centres = np.linspace(-4, 4, 17)[:-1] + 0.25
    density = strip.shares / 0.5
    np.testing.assert_allclose(density, np.exp(-(centres**2) / 2) / math.sqrt(2 * math.pi), atol=0.006)
    rising = np.diff(density) > 0
    assert rising.tolist() == [True] * 7 + [False] * 8 or rising.tolist() == [True] * 8 + [False] * 7


def test_a_bin_that_two_cells_share_is_split_in_proportion() -> None:
    low, high = EDGES[140], EDGES[141]
    middle = low + 0.25 * (high - low)
    strip = rebin(one_bin(140), (middle - 1, middle + 1), cells=2)
    np.testing.assert_allclose(strip.shares, [0.25, 0.75])


def test_what_lies_outside_the_axis_or_the_grid_is_told() -> None:
    counted = Histogram(one_bin(200, 50).counts, below=20, above=10, nonfinite=20)
    strip = rebin(counted, (-1.0, 1.0))
    assert (strip.shares.sum(), strip.outside, strip.nonfinite) == (0, 0.8, 0.2)


def test_a_saturated_tanh_is_not_smeared_beyond_one() -> None:
    at_one = int(np.searchsorted(EDGES, 1.0)) - 1  # its bin reaches to 1.06
    free = rebin(one_bin(at_one), (0.0, 2.0), cells=2)
    held = rebin(one_bin(at_one), (0.0, 2.0), SUPPORT["tanh"], cells=2)
    assert free.shares[1] > 0.3
    assert held.shares.tolist() == [1.0, 0.0]


def test_values_in_a_bin_outside_the_support_move_to_its_end() -> None:
    strip = rebin(one_bin(127), (-1.0, 1.0), SUPPORT["relu"], cells=2)  # rounding may put a zero below zero
    assert strip.shares.tolist() == [0.0, 1.0]


def test_an_empty_histogram_has_nothing_to_draw() -> None:
    strip = rebin(Histogram(np.zeros(BINS, dtype=np.int64)), (-1.0, 1.0))
    assert (strip.shares.sum(), strip.outside, strip.nonfinite) == (0, 0, 0)


def test_the_central_range_of_a_normal_distribution() -> None:
    low, high = central_range(normal(std=2.0, mean=1.0)) or (0, 0)
    # the 0.5 % and 99.5 % quantiles are 2.576 deviations from the mean
    assert low == pytest.approx(1 - 2.576 * 2, abs=0.05)
    assert high == pytest.approx(1 + 2.576 * 2, abs=0.05)


def test_the_central_range_leaves_out_a_far_tail_but_not_an_outpost() -> None:
    counts = one_bin(128, 10_000).counts + one_bin(250, 10).counts
    low, high = central_range(Histogram(counts)) or (0, 0)
    assert EDGES[128] <= low < high <= EDGES[129]
    outpost = Histogram(one_bin(128, 10_000).counts + one_bin(200, 500).counts)
    assert EDGES[200] < (central_range(outpost) or (0, 0))[1] <= EDGES[201]


def test_the_central_range_without_finite_values() -> None:
    empty = np.zeros(BINS, dtype=np.int64)
    assert central_range(Histogram(empty, nonfinite=9)) is None
    assert central_range(Histogram(empty, below=9, above=9)) == (EDGES[0], EDGES[-1])


def test_the_axis_of_a_column_covers_every_variant_and_is_never_narrower_than_the_grid() -> None:
    assert axis_range([]) == (-1.1, 1.1)
    assert axis_range([(-1.0, 1.0)]) == (-1.1, 1.1)
    low, high = axis_range([(-0.21, -0.19), (-3.0, 2.5)])
    assert low < -3.0
    assert high > 2.5
    low, high = axis_range([(-0.201, -0.199)])
    assert high - low >= 0.8
