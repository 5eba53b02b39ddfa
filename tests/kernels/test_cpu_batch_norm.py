"""Batch norm by our kernels: at most twice as far from the reference as PyTorch, whatever is passed."""

import itertools
from typing import Any

import pytest
import torch
from tests.kernels.batch_norm_cases import (
    EPS,
    KERNELS,
    LAYOUTS,
    away_from_the_kink,
    bits_of,
    by_kernel,
    by_torch,
    held,
    parameters,
    use,
)
from tests.layers.oracle import close, random
from tests.tolerances import beside_torch

from normlab.kernels.activation import NOTHING, After
from normlab.kernels.cpu.batch_norm import batch_norm_fwd

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CONTIGUOUS = ("contiguous", (6, 5, 700))
each_kernel = pytest.mark.parametrize("kernel", KERNELS, indirect=True)
# a kernel costs a second to compile, and what is of a dtype is the same in all of them
KERNELS_AND_DTYPES = [
    *itertools.product(["contiguous", "rows"], DTYPES), ("short", torch.float32), ("short", torch.bfloat16),
]  # fmt: skip
each_with_dtypes = pytest.mark.parametrize(("kernel", "dtype"), KERNELS_AND_DTYPES, indirect=["kernel"], ids=str)
Kernel = tuple[str, tuple[int, int, int]]  # the layout that it serves, and a shape


@pytest.fixture
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return use(request.param, monkeypatch)


def outlier(x: torch.Tensor, largest: float) -> torch.Tensor:
    """The first value of each channel, wherever it lies."""
    x = x.clone()
    x[0, :, 0] = min(largest, 1e6)
    return x


REGIMES: dict[str, tuple[Any, float]] = {  # up to a largest number; and how large these are beside their deviation
    "unit": (lambda x, _: x, 1.0),
    "mean 1e3": (lambda x, _: 1e3 + 0.1 * x, 1e4),
    "tiny beside the mean": (lambda x, _: 1 + 1e-6 * x, 1e6),
    "tiny beside eps": (lambda x, _: 1e-6 * x, 1.0),
    "constant": (lambda x, _: 0 * x + 7.3, 1e4),
    "huge": (lambda x, largest: min(largest, 1e18) * x, 1.0),
    "first an outlier": (outlier, 1.0),
    "channels apart": (lambda x, _: x + 1e3 * torch.arange(x.shape[1]).view(1, -1, 1), 1e4),
}


def case(kernel: Kernel, dtype: torch.dtype, regime: str = "unit", shape: tuple[int, ...] = ()) -> list[Any]:
    """x, weight, bias, dy and the axis."""
    layout, shape = kernel[0], shape or kernel[1]
    lay, axis = LAYOUTS[layout]
    largest = 1e4 if dtype == torch.float16 else 1e18  # whose square can be summed in float32
    x = lay(REGIMES[regime][0](random(*shape), largest).to(dtype))
    return [x, *parameters(shape[1], x), lay(random(*shape, seed=4)).to(dtype), axis]


def residual_like(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x).copy_(random(*x.shape, seed=5))


@each_with_dtypes
@pytest.mark.parametrize("regime", REGIMES)
def test_beside_torch(kernel: Kernel, dtype: torch.dtype, regime: str) -> None:
    held(*case(kernel, dtype, regime), condition=REGIMES[regime][1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_layouts(layout: str, dtype: torch.dtype) -> None:
    """And what they come out in."""
    given = case((layout, (6, 5, 700)), dtype, "channels apart")
    found = held(*given)
    for name in ("y", "dx"):
        assert found[name].stride() == given[0].stride()


@each_kernel
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 2), (2, 3, 1), (1, 17, 31), (7, 2, 16), (3, 16, 33), (5, 64, 15), (2, 130, 17), (2, 3, 4097), (1, 1, 8193),
     (129, 3, 1), (1031, 1, 1), (2, 2, 127), (3, 130, 7), (260, 33, 4), (2, 49, 48), (19, 20, 61),
     (9, 1030, 3)],
    ids=str,
)  # fmt: skip
def test_shapes(kernel: Kernel, threads: int, shape: tuple[int, int, int]) -> None:
    """With ReLU and a residual; fewer channels, rows and values than threads among them."""
    given = case(kernel, torch.float32, shape=shape)
    held(*given, After("relu", residual=residual_like(given[0])), threads=threads)


@each_with_dtypes
def test_the_statistics(kernel: Kernel, dtype: torch.dtype) -> None:
    """In float32 the mean and what it leaves out are 48 bits of it."""
    x, _, _, _, axis = case(kernel, dtype, "mean 1e3")
    mean, left, rstd, var = batch_norm_fwd(x, None, None, axis, 1e-5, NOTHING)[1].unbind()
    theirs = torch.zeros(5, dtype=mean.dtype), torch.zeros(5, dtype=mean.dtype)
    torch.batch_norm(x, None, None, *theirs, True, 1.0, 1e-5, False)
    exact = x.double().movedim(axis, 0).flatten(1)
    count = exact.shape[1]
    stock_var = theirs[1] * ((count - 1) / count)
    wide = exact.var(1, correction=0)
    beside_torch(mean, theirs[0], exact.mean(1), "mean", condition=1e4)
    beside_torch(var, stock_var, wide, "var", condition=1e4)
    beside_torch(rstd, (stock_var + 1e-5).rsqrt(), (wide + 1e-5).rsqrt(), "rstd", condition=1e4)
    # deviations from a large mean are few bits each, and their float32 sums are exact
    close((mean.double() + left.double()) / exact.mean(1), torch.ones(5), tolerance=torch.finfo(torch.float32).eps ** 2)


@each_kernel
@pytest.mark.parametrize("affine", ["weight and bias", "weight", "bias", "nothing"])
def test_with_and_without_parameters(kernel: Kernel, affine: str) -> None:
    x, weight, bias, dy, axis = case(kernel, torch.float32)
    weight, bias = weight if "weight" in affine else None, bias if "bias" in affine else None
    held(x, weight, bias, dy, axis)


@each_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("regime", ["unit", "mean 1e3"])
def test_with_a_residual(kernel: Kernel, dtype: torch.dtype, regime: str) -> None:
    """Which may lie in another way, as may what comes from above."""
    given = case(kernel, dtype, regime)
    other = residual_like(given[0])
    ours = held(*given, After("relu", residual=other))
    spread = torch.stack([other, other], -1)[..., 0]
    dy = away_from_the_kink(given[3], *given[:3], given[4], After("relu", residual=other))
    spread_dy = torch.stack([dy, dy], -1)[..., 0]
    again = by_kernel(*given[:3], spread_dy, given[4], After("relu", residual=spread))
    assert bits_of(again) == bits_of(ours)


@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu", "silu", "gelu"])
def test_given_statistics(activation: Any) -> None:
    """Which are constants, so that dx is that of a linear map."""
    given = random(5, seed=6, dtype=torch.float32), random(5, seed=7, dtype=torch.float32).square()
    held(*case(CONTIGUOUS, torch.float32), After(activation, 0.2), given)


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [*itertools.product(["contiguous", "rows"], [torch.float32, torch.float64, torch.bfloat16]),
     ("short", torch.float32)],
    indirect=["kernel"], ids=str,
)  # fmt: skip
def test_given_statistics_of_large_means(kernel: Kernel, dtype: torch.dtype) -> None:
    wide = torch.promote_types(dtype, torch.float32)
    given = 1e3 + random(5, seed=6, dtype=wide), 0.01 + random(5, seed=7, dtype=wide).square()
    held(*case(kernel, dtype, "mean 1e3"), given=given, condition=1e4)


def test_an_activation_by_the_statistics_of_the_batch() -> None:
    held(*case(CONTIGUOUS, torch.float32), After("relu"))


@each_kernel
@pytest.mark.parametrize("given", [False, True], ids=["of the batch", "given"])
def test_junk_reaches_what_it_reaches_in_torch(kernel: Kernel, given: bool) -> None:
    """NaN and infinity, in x and from above: the channels, or with given statistics the values, in which they are."""
    ours, theirs = with_junk(kernel, given)
    for name, stock in theirs.items():
        assert torch.equal(ours[name].isfinite(), stock.isfinite()), name
    assert torch.equal(ours["y"].isnan(), theirs["y"].isnan())
    if given:
        torch.testing.assert_close(ours["y"], theirs["y"], equal_nan=True)


def with_junk(kernel: Kernel, given: bool) -> list[dict[str, torch.Tensor]]:
    x, weight, bias, dy, axis = case(kernel, torch.float32, shape=(4, 6, 50))
    lay, _ = LAYOUTS[kernel[0]]
    where, above = torch.zeros(4, 6, 50), torch.zeros(4, 6, 50)
    where[1, 0, 3], where[0, 1, 0], where[3, 2, 49] = torch.nan, torch.inf, -torch.inf
    above[2, 3, 7], above[2, 4, 8] = torch.nan, torch.inf
    statistics = (torch.ones(6), torch.full((6,), 2.0)) if given else None
    return [
        by(x + lay(where), weight, bias, dy + lay(above), axis, NOTHING, statistics) for by in (by_kernel, by_torch)
    ]


@each_kernel
def test_of_one_value(kernel: Kernel) -> None:
    """PyTorch refuses it, and our layers do; y is the bias, and dx the roundings of two numbers that cancel."""
    x, weight, bias, dy, axis = case(kernel, torch.float32, shape=(1, 3, 1))
    found = by_kernel(x, weight, bias, dy, axis)
    assert torch.equal(found["y"].flatten(), bias)
    of_two = torch.finfo(torch.float32).eps * (weight * dy.flatten()).abs() * EPS**-0.5
    assert (found["dx"].flatten().abs() <= of_two).all()
    assert not found["dweight"].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_number_of_16_bits(dtype: torch.dtype) -> None:
    """Widened and rounded as PyTorch does it: subnormal ones, halves of the last place, infinities and NaN."""
    x = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(dtype).view(1, 2, -1)
    known = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(4, 1).expand(4, 2).contiguous()
    for bias in ([0.0, 0.0], [1 / 3, 1e-3], [5e4, 3e38]):
        y = batch_norm_fwd(x, None, torch.tensor(bias), 1, 1e-5, NOTHING, known)[0]
        torch.testing.assert_close(y, (x.float() + torch.tensor(bias).view(1, 2, 1)).to(dtype), rtol=0, atol=0,
                                   equal_nan=True)  # fmt: skip


@pytest.mark.parametrize("shape", [(40, 20), (40, 20, 3), (4, 20, 90)], ids=["rows", "few positions", "runs"])
def test_squares_beyond_float32(shape: tuple[int, ...]) -> None:
    """The variance is right or infinite, and not NaN: the squares of sums are of float64."""
    x = 3e18 * random(*shape, dtype=torch.float32)
    y, statistics = batch_norm_fwd(x, None, None, 1, 1e-5, NOTHING)
    assert statistics[3].isinf().any()
    assert not statistics[3].isnan().any()
    assert y.isfinite().all()
