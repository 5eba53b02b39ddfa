"""Layer norm by our kernels: at most twice as far from the reference as PyTorch, whatever is passed."""

from collections.abc import Iterator

import pytest
import torch
from tests.kernels.row_norm_cases import (
    DTYPES,
    LAYER,
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

from normlab.errors import InvalidInputError
from normlab.kernels import alloc
from normlab.kernels.activation import After
from normlab.kernels.cpu import launch, rows
from normlab.kernels.cpu.layer_norm import layer_norm_fwd, why_not


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from guarding(monkeypatch)


@dtypes
@pytest.mark.parametrize("regime", REGIMES)
def test_beside_torch(dtype: torch.dtype, regime: str) -> None:
    x, weight, bias, dy = given((37, 100), (100,), dtype, regime)
    held(LAYER, x, weight, bias, 1, dy, condition=REGIMES[regime][1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 2), (3, 7), (5, 16), (2, 17), (17, 31), (16, 32), (131, 33), (300, 8), (6, 127), (9, 1023), (5, 1025),
     (7, 2049), (18, 2048), (1, 4096), (3, 4097), (5, 8193)],
    ids=str,
)  # fmt: skip
def test_shapes(threads: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows than threads, than are taken together, than four; less than a vector; more than a block."""
    share(monkeypatch, threads)
    x, weight, bias, dy = given(shape, shape[1:])
    held(LAYER, x, weight, bias, 1, dy)


@pytest.mark.parametrize("shape", [(3, 4097), (20, 63)], ids=str)
@pytest.mark.parametrize("regime", ["mean 1e3", "first an outlier", "tiny beside the mean"])
def test_rows_whose_first_values_say_little(shape: tuple[int, int], regime: str) -> None:
    x, weight, bias, dy = given(shape, shape[1:], regime=regime)
    x[0, :20] = x[0].mean() + 10  # of one row among others
    held(LAYER, x, weight, bias, 1, dy, condition=REGIMES[regime][1])


def test_some_dimensions() -> None:
    x, weight, bias, dy = given((2, 3, 4, 5, 6), (4, 5, 6))
    held(LAYER, x, weight, bias, 3, dy)


@pytest.mark.parametrize("affine", ["weight", "bias", "nothing"])
def test_without_parameters(affine: str) -> None:
    x, weight, bias, dy = given((6, 40), (40,))
    held(LAYER, x, weight if affine == "weight" else None, bias if affine == "bias" else None, 1, dy)


def test_parameters_and_gradients_of_any_kind() -> None:
    """Parameters of another dtype, and neither they nor dy lying in order."""
    x, weight, bias, dy = given((6, 40), (40,))
    expected = by_kernel(LAYER, x, weight.bfloat16().float(), bias, 1, dy)
    spread = torch.stack([dy, dy], -1)[..., 0]
    assert bias is not None
    apart = torch.stack([bias, bias], -1)[..., 0]
    assert same_bits(by_kernel(LAYER, x, weight.bfloat16(), apart, 1, spread), expected)
    assert same_bits(by_kernel(LAYER, x, weight.bfloat16(), bias, 1, torch._neg_view(-dy)), expected)


@dtypes
def test_the_statistics(dtype: torch.dtype) -> None:
    """In float32 the mean and what it leaves out are as exact as the deviation, not as the mean."""
    x = given((21, 100), (100,), dtype, "mean 1e3")[0]
    mean, left, rstd, var = layer_norm_fwd(x, None, None, 1, 1e-5)[1].unbind()
    exact = x.double()
    wide = exact.var(1, correction=0)
    _, stock_mean, stock_rstd = torch.native_layer_norm(x, [100], None, None, 1e-5)
    stock_var = stock_rstd.double() ** -2 - 1e-5
    beside_torch(mean, stock_mean.flatten(), exact.mean(1), "mean", condition=1e4)
    beside_torch(rstd, stock_rstd.flatten(), (wide + 1e-5).rsqrt(), "rstd", condition=1e4)
    beside_torch(var, stock_var.flatten(), wide, "var", condition=1e4)
    off = (mean.double() + left.double() - exact.mean(1)).to(mean.dtype)
    beside_torch(1 + off, torch.ones_like(off), torch.ones(21), "the rest of the mean", condition=1e4)


@pytest.mark.parametrize("length", [5, 48, 4500])
def test_junk_reaches_what_it_reaches_in_torch(length: int) -> None:
    x, weight, bias, dy = given((9, length), (length,))
    x[1, 3], x[2, 0], x[4, -1], x[5, 1:3] = torch.nan, torch.inf, -torch.inf, torch.inf
    dy[6, 2], dy[7, -1] = torch.nan, torch.inf
    ours, theirs = (by(LAYER, x, weight, bias, 1, dy) for by in (by_kernel, by_torch))
    for name, stock in theirs.items():
        assert torch.equal(ours[name].isfinite(), stock.isfinite()), name
        if name != "dx":  # in whose row an infinite dy makes differences of infinities
            assert torch.equal(ours[name].isnan(), stock.isnan()), name


@pytest.mark.parametrize("size", [1e25, 1e30, 1e36])
def test_squares_that_overflow(size: float) -> None:
    """As in PyTorch: y is the bias, and nothing goes back; equal values have no deviation, however large."""
    x, weight, bias, dy = given((40, 77), (77,))
    ours = by_kernel(LAYER, size * x, weight, bias, 1, dy)
    assert bias is not None
    assert torch.equal(ours["y"], bias.expand(40, 77))
    assert not ours["dx"].any()
    assert not ours["dweight"].any()
    assert torch.equal(by_torch(LAYER, size * x, weight, bias, 1, dy)["y"], ours["y"])
    for length in (3, 7, 77):
        equal = size * torch.ones(5, length)
        statistics = layer_norm_fwd(equal, None, None, 1, 1e-5)[1]
        assert torch.equal(statistics[0], equal[:, 0])
        assert not statistics[[1, 3]].any()


@pytest.mark.parametrize("length", [64, 2048])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_past_the_caches(length: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias, dy = given((7, length), (length,), dtype)
    expected = by_kernel(LAYER, x, weight, bias, 1, dy)
    monkeypatch.setattr(launch, "PAST", 0)
    monkeypatch.setattr(launch, "PAST_BACK", 0)
    rows._plan.cache_clear()
    assert same_bits(by_kernel(LAYER, x, weight, bias, 1, dy), expected)


def test_what_goes_past_the_caches() -> None:
    """Full vectors at multiples of their size, or the processor refuses; the memory begins at a page."""
    assert min(launch.PAST, launch.PAST_BACK) >= alloc.LEAST
    x = torch.empty(512, device="meta")
    assert launch.past(x, 64, 2048)
    assert not launch.past(x, 64, 2049)
    assert not launch.past(x, 72, 2048)


@pytest.mark.parametrize("threads", [1, 2])
def test_again_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    share(monkeypatch, threads)
    x, weight, bias, dy = given((411, 65), (65,))
    expected = by_kernel(LAYER, x, weight, bias, 1, dy)
    for _ in range(5):
        assert same_bits(by_kernel(LAYER, x, weight, bias, 1, dy), expected)


def test_many_rows_are_summed_as_exactly_as_few() -> None:
    """PyTorch adds all rows up in float32."""
    x, weight, bias, _ = given((20_000, 2), (2,))
    dy = torch.full((20_000, 2), 0.1)
    ours, stock, exact = (by(LAYER, x, weight, bias, 1, dy)["dbias"] for by in (by_kernel, by_torch, by_reference))
    assert 20 * (ours - exact).abs().amax() < (stock - exact).abs().amax()


def test_what_is_served() -> None:
    x = torch.zeros(4, 6)
    assert why_not(x, 1) == ""
    refused = {
        "it is of torch.int64": x.long(),
        "it is empty": x[:0],
        "it is not contiguous": x.T,
    }
    assert {why_not(each, 1) for each in refused.values()} == set(refused)
    assert why_not(x, 1, After("relu")) == "nothing may follow this norm"


def test_parameters_that_do_not_fit() -> None:
    x = torch.zeros(4, 6)
    with pytest.raises(InvalidInputError) as error:
        layer_norm_fwd(x, torch.ones(5), None, 1, 1e-5)
    assert str(error.value) == (
        "layer_norm: `weight` must have 6 entries, and lie where `x` does.\n"
        "  got: weight (5,) float32 cpu; x (4, 6) float32 cpu"
    )
