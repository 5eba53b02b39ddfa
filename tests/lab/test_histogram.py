import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.lab.grid import BINS, EDGES, LIMIT, REACH, Histogram
from normlab.lab.histogram import histograms

# The slot is computed in float32 and lies below 256, so that an ulp of it is at most 2⁻¹⁶; the logarithm (below 10,
# ulp 2⁻²⁰, times 256 / 19.8) adds as much. Six operations: a value nearer to an edge than this many bins may fall
# on either side.
NEAR_EDGE = 6 * 2 * 2.0**-16

values = st.lists(
    st.one_of(st.floats(width=32), st.floats(-2e4, 2e4, width=32), st.floats(-2, 2, width=32)), max_size=40
)


def of(*numbers: float, dtype: torch.dtype = torch.float32) -> Histogram:
    return histograms(torch.tensor([numbers], dtype=dtype))[0]


def clear_of_edges(x: np.ndarray) -> np.ndarray:
    slot = (np.arcsinh(x) + REACH) * BINS / (2 * REACH)
    return x[np.abs(slot - np.round(slot)) > NEAR_EDGE]


def same(a: Histogram, b: Histogram) -> bool:
    ends = (a.below, a.above, a.nonfinite) == (b.below, b.above, b.nonfinite)
    return ends and np.array_equal(a.counts, b.counts)


def test_the_edges_are_even_in_asinh_and_end_at_ten_thousand() -> None:
    assert EDGES.shape == (257,)
    assert np.all(np.diff(EDGES) > 0)
    steps = np.diff(np.arcsinh(EDGES))
    ulp = np.spacing(REACH)
    assert np.abs(steps - 2 * math.asinh(1e4) / 256).max() < 16 * ulp
    assert np.abs(EDGES + EDGES[::-1]).max() < 1e4 * 16 * ulp
    assert abs(EDGES[-1] - 1e4) < 1e4 * 16 * ulp
    assert EDGES[128] == 0.0


@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 5e3], ids=str)
@pytest.mark.parametrize("mean", [0.0, 3.0, -1e3], ids=str)
def test_counts_are_those_of_numpy(mean: float, spread: float) -> None:
    rng = np.random.default_rng(0)
    x = clear_of_edges(rng.normal(mean, spread, 20_000).astype(np.float32).astype(np.float64))
    assert len(x) > 10_000
    found = of(*x)
    assert np.array_equal(found.counts, np.histogram(x, EDGES)[0])
    assert (found.below, found.above) == ((x < -LIMIT).sum(), (x > LIMIT).sum())
    assert found.nonfinite == 0


def test_every_bin_takes_what_lies_in_its_middle() -> None:
    middles = np.sinh((np.arcsinh(EDGES[:-1]) + np.arcsinh(EDGES[1:])) / 2)
    assert of(*middles).counts.tolist() == [1] * BINS


def test_the_ends_belong_to_the_grid_and_what_is_beyond_does_not() -> None:
    found = of(-1e4, 1e4, *(np.nextafter(np.float32(sign * 1e4), np.float32(sign * np.inf)) for sign in (-1, 1)))
    assert (found.counts[0], found.counts[-1], found.below, found.above) == (1, 1, 1, 1)
    assert found.total() == 4


def test_the_largest_numbers_are_above_and_below() -> None:
    largest = float(np.finfo(np.float32).max)
    found = of(largest, largest, -largest, 1e30)
    assert (found.above, found.below, found.nonfinite, found.total()) == (3, 1, 0, 4)


def test_what_is_not_finite_is_counted_apart() -> None:
    found = of(math.inf, -math.inf, math.nan, -math.nan, 0.5)
    assert (found.nonfinite, found.below, found.above, found.counts.sum()) == (4, 0, 0, 1)


def test_nought_and_the_smallest_numbers_lie_beside_the_middle_edge() -> None:
    assert of(0.0, -0.0, 1e-45).counts[127:129].sum() == 3
    assert of(0.01).counts[128] == 1
    assert of(-0.01).counts[127] == 1


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)], ids=str)
def test_no_values_give_empty_histograms(shape: tuple[int, int]) -> None:
    found = histograms(torch.zeros(shape))
    assert len(found) == shape[0]
    assert all(same(each, Histogram(np.zeros(BINS, dtype=int))) for each in found)


def test_rows_are_counted_apart() -> None:
    rows = [[0.5, 2e4, math.nan], [-0.5, -0.5, -3e4], [1.0, 1.0, 1.0]]
    for row, found in zip(rows, histograms(torch.tensor(rows)), strict=True):
        assert same(found, of(*row))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_types_are_counted_too(dtype: torch.dtype) -> None:
    numbers = torch.linspace(-3, 3, 31).to(dtype)
    assert same(of(*numbers.tolist(), dtype=dtype), of(*numbers.tolist()))


def test_a_number_too_large_for_float32_is_above_and_not_infinite() -> None:
    found = of(1e300, -1e300, dtype=torch.float64)
    assert (found.above, found.below, found.nonfinite) == (1, 1, 0)


def test_the_tensor_is_left_alone() -> None:
    x = torch.tensor([[0.5, 2e4, math.inf]])
    before = x.clone()
    histograms(x)
    assert torch.equal(x, before)


@given(values)
@settings(max_examples=100, deadline=None)
def test_every_value_is_counted_once(numbers: list[float]) -> None:
    assert of(*numbers).total() == len(numbers)


@given(values, values)
@settings(max_examples=50, deadline=None)
def test_counts_add(a: list[float], b: list[float]) -> None:
    assert same(of(*a) + of(*b), of(*a, *b))


@given(values)
@settings(max_examples=50, deadline=None)
def test_the_grid_is_symmetric(numbers: list[float]) -> None:
    """Bar what lies within rounding of an edge, and the numbers around nought."""
    finite = np.array([x for x in numbers if math.isfinite(x) and abs(x) <= LIMIT])
    kept = clear_of_edges(finite)
    assert np.array_equal(of(*kept).counts, of(*-kept).counts[::-1])
