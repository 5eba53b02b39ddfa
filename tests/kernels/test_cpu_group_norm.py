"""Group and instance norm by our kernels: at most twice as far from the reference as PyTorch, whatever is passed."""

from collections.abc import Iterator

import pytest
import torch
from tests.kernels.row_norm_cases import (
    GROUP,
    REGIMES,
    by_kernel,
    by_reference,
    by_torch,
    dtypes,
    given,
    guarding,
    held,
    same_bits,
    share,
)
from tests.tolerances import beside_torch

from normlab.kernels.cpu import group_norm, launch
from normlab.kernels.cpu.group_norm import group_norm_fwd, why_not


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from guarding(monkeypatch)


@dtypes
@pytest.mark.parametrize("groups", [2, 6])
@pytest.mark.parametrize("regime", REGIMES)
def test_beside_torch(dtype: torch.dtype, groups: int, regime: str) -> None:
    x, weight, bias, dy = given((5, 6, 7, 9), (6,), dtype, regime)
    held(GROUP, x, weight, bias, groups, dy, condition=REGIMES[regime][1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((1, 1, 2), 1), ((2, 6, 1), 2), ((3, 8, 1), 1), ((1, 17, 31), 17), ((7, 2, 16), 1), ((64, 1, 17), 1),
     ((3, 40, 15), 2), ((2, 130, 17), 13), ((9, 12, 33), 4), ((2, 3, 4097), 3), ((1, 4, 1500), 1), ((1, 2, 9001), 1),
     ((2, 20, 205), 1), ((2, 64, 64), 32), ((1, 1, 4096), 1)],
    ids=str,
)  # fmt: skip
def test_shapes(threads: int, shape: tuple[int, ...], groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer sets than threads, more channels in a set than lanes, more values in a set or a channel than in a block."""
    share(monkeypatch, threads)
    x, weight, bias, dy = given(shape, shape[1:2])
    held(GROUP, x, weight, bias, groups, dy)


def test_without_positions() -> None:
    x, weight, bias, dy = given((7, 24), (24,))
    held(GROUP, x, weight, bias, 3, dy)


@pytest.mark.parametrize("affine", ["weight", "nothing"])  # of a bias alone PyTorch computes no gradient
def test_without_parameters(affine: str) -> None:
    x, weight, bias, dy = given((2, 6, 40), (6,))
    held(GROUP, x, weight if affine == "weight" else None, None, 3, dy)
    assert torch.equal(group_norm_fwd(x, None, bias, 3, 1e-5)[0], group_norm_fwd(x, torch.ones(6), bias, 3, 1e-5)[0])


@pytest.mark.parametrize("regime", ["mean 1e3", "first an outlier", "tiny beside the mean"])
def test_groups_apart(regime: str) -> None:
    x, weight, bias, dy = given((2, 8, 1100), (8,), regime=regime)
    x += 1e3 * torch.arange(8).view(1, 8, 1)
    held(GROUP, x, weight, bias, 2, dy, condition=REGIMES[regime][1])
    held(GROUP, x, weight, bias, 8, dy, condition=REGIMES[regime][1])


@dtypes
def test_the_statistics(dtype: torch.dtype) -> None:
    """Of each sample and group, in float32 with what it leaves out of the mean."""
    x = given((3, 8, 20), (8,), dtype, "mean 1e3")[0]
    mean, left, rstd, var = group_norm_fwd(x, None, None, 4, 1e-5)[1].unbind()
    exact = x.double().view(12, 40)
    wide = exact.var(1, correction=0)
    _, stock_mean, stock_rstd = torch.native_group_norm(x, None, None, 3, 8, 20, 4, 1e-5)
    beside_torch(mean, stock_mean.flatten(), exact.mean(1), "mean", condition=1e4)
    beside_torch(rstd, stock_rstd.flatten(), (wide + 1e-5).rsqrt(), "rstd", condition=1e4)
    beside_torch(var, stock_rstd.flatten().double() ** -2 - 1e-5, wide, "var", condition=1e4)
    off = (mean.double() + left.double() - exact.mean(1)).to(mean.dtype)
    beside_torch(1 + off, torch.ones_like(off), torch.ones(12), "the rest of the mean", condition=1e4)


@pytest.mark.parametrize("positions", [3, 50, 2500])
def test_junk_reaches_what_it_reaches_in_torch(positions: int) -> None:
    x, weight, bias, dy = given((4, 6, positions), (6,))
    x[0, 1, 2], x[1, 2, 0], x[2, 5, -1] = torch.nan, torch.inf, -torch.inf
    dy[3, 0, 1] = torch.nan
    ours, theirs = (by(GROUP, x, weight, bias, 3, dy) for by in (by_kernel, by_torch))
    for name, stock in theirs.items():
        assert torch.equal(ours[name].isnan(), stock.isnan()), name
        assert torch.equal(ours[name].isinf(), stock.isinf()), name


@pytest.mark.parametrize("size", [1e25, 1e30, 1e36])
def test_squares_that_overflow(size: float) -> None:
    """As in PyTorch: y is the bias, and nothing goes back."""
    x, weight, bias, dy = given((4, 6, 50), (6,))
    ours = by_kernel(GROUP, size * x, weight, bias, 3, dy)
    assert bias is not None
    assert torch.equal(ours["y"], bias.view(6, 1).expand(4, 6, 50))
    assert not ours["dx"].any()
    assert not ours["dweight"].any()
    assert torch.equal(by_torch(GROUP, size * x, weight, bias, 3, dy)["y"], ours["y"])


@dtypes
def test_past_the_caches(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias, dy = given((3, 6, 48), (6,), dtype)
    expected = by_kernel(GROUP, x, weight, bias, 2, dy)
    monkeypatch.setattr(launch, "PAST", 0)
    monkeypatch.setattr(launch, "PAST_BACK", 0)
    group_norm._plan.cache_clear()
    assert same_bits(by_kernel(GROUP, x, weight, bias, 2, dy), expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("groups", [4, 16])
def test_again_the_same(threads: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    share(monkeypatch, threads)
    x, weight, bias, dy = given((41, 16, 37), (16,))
    expected = by_kernel(GROUP, x, weight, bias, groups, dy)
    for _ in range(5):
        assert same_bits(by_kernel(GROUP, x, weight, bias, groups, dy), expected)


def test_many_samples_are_summed_as_exactly_as_few() -> None:
    """PyTorch adds all samples up in float32."""
    x, weight, bias, _ = given((20_000, 2, 2), (2,))
    dy = torch.full((20_000, 2, 2), 0.1)
    ours, stock, exact = (by(GROUP, x, weight, bias, 2, dy)["dbias"] for by in (by_kernel, by_torch, by_reference))
    assert 20 * (ours - exact).abs().amax() < (stock - exact).abs().amax()


def test_what_is_served() -> None:
    x = torch.zeros(4, 6, 2)
    assert why_not(x.transpose(1, 2), 3) == "it is not contiguous"
    assert {why_not(x, 4), why_not(x[0, 0], 1)} == {"its channels make no such groups"}
