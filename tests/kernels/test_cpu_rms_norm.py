"""RMS norm by our kernels: at most twice as far from the reference as PyTorch, whatever is passed."""

from collections.abc import Iterator

import pytest
import torch
from tests.kernels.row_norm_cases import (
    REGIMES,
    RMS,
    by_kernel,
    by_torch,
    dtypes,
    given,
    guarding,
    held,
    same_bits,
    share,
)

from normlab.kernels.cpu import launch, rows
from normlab.kernels.cpu.rms_norm import rms_norm_fwd, why_not


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from guarding(monkeypatch)


@dtypes
@pytest.mark.parametrize("regime", REGIMES)
def test_beside_torch(dtype: torch.dtype, regime: str) -> None:
    x, weight, _, dy = given((37, 100), (100,), dtype, regime, bias=False)
    held(RMS, x, weight, None, 1, dy, condition=REGIMES[regime][1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape",
    [(7, 1), (1, 2), (3, 7), (2, 17), (16, 32), (131, 33), (300, 8), (9, 1023), (7, 2049), (18, 2048), (3, 4097),
     (5, 8193)],
    ids=str,
)  # fmt: skip
def test_shapes(threads: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    share(monkeypatch, threads)
    x, weight, _, dy = given(shape, shape[1:], bias=False)
    held(RMS, x, weight, None, 1, dy)


def test_some_dimensions_without_weight() -> None:
    x, _, _, dy = given((2, 3, 4, 5), (4, 5))
    held(RMS, x, None, None, 2, dy)


@dtypes
def test_the_statistics(dtype: torch.dtype) -> None:
    """There is no mean to take away."""
    x = given((21, 100), (100,), dtype)[0]
    mean, left, rstd, square = rms_norm_fwd(x, None, 1, 1e-5)[1].unbind()
    assert not mean.any()
    assert not left.any()
    exact = x.double().square().mean(1)
    torch.testing.assert_close(square, exact.to(square.dtype))
    torch.testing.assert_close(rstd, (exact + 1e-5).rsqrt().to(rstd.dtype))


@pytest.mark.parametrize("length", [5, 48, 4500])
def test_junk_reaches_what_it_reaches_in_torch(length: int) -> None:
    """An infinite value makes the others 0, and itself NaN."""
    x, weight, _, dy = given((9, length), (length,), bias=False)
    x[1, 3], x[2, 0], x[4, -1], x[5, 1:3] = torch.nan, torch.inf, -torch.inf, torch.inf
    dy[6, 2] = torch.nan
    ours, theirs = (by(RMS, x, weight, None, 1, dy) for by in (by_kernel, by_torch))
    for name, stock in theirs.items():
        assert torch.equal(ours[name].isnan(), stock.isnan()), name
        assert torch.equal(ours[name].isinf(), stock.isinf()), name


@pytest.mark.parametrize("size", [1e20, 1e30])
def test_squares_that_overflow(size: float) -> None:
    """As in PyTorch nothing is left of them."""
    x, weight, _, dy = given((40, 77), (77,), bias=False)
    for by in (by_kernel, by_torch):
        assert not any(each.any() for each in by(RMS, size * x, weight, None, 1, dy).values())


@pytest.mark.parametrize("length", [64, 2048])
def test_past_the_caches(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, _, dy = given((7, length), (length,), bias=False)
    expected = by_kernel(RMS, x, weight, None, 1, dy)
    monkeypatch.setattr(launch, "PAST", 0)
    monkeypatch.setattr(launch, "PAST_BACK", 0)
    rows._plan.cache_clear()
    assert same_bits(by_kernel(RMS, x, weight, None, 1, dy), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_again_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    share(monkeypatch, threads)
    x, weight, _, dy = given((411, 65), (65,), bias=False)
    expected = by_kernel(RMS, x, weight, None, 1, dy)
    for _ in range(5):
        assert same_bits(by_kernel(RMS, x, weight, None, 1, dy), expected)


def test_what_is_served() -> None:
    x = torch.zeros(4, 6)
    assert why_not(x.T, 1) == "it is not contiguous"
