"""What the kernels of batch norm touch: all of their outputs, nothing beside them, and nothing beside their inputs."""

import ctypes
import mmap
from typing import Any

import numpy as np
import pytest
import torch
from tests.kernels.batch_norm_cases import KERNELS, LAYOUTS, Found, bits_of, by_kernel, parameters, use
from tests.layers.oracle import random

from normlab.kernels import alloc
from normlab.kernels.activation import After
from normlab.kernels.cpu import batch_norm

BESIDE, UNTOUCHED = 128, -7.0
each_kernel = pytest.mark.parametrize("layout", KERNELS, indirect=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
# (N, C, S) with all sorts of ends: less than sixteen numbers, one more, one less, of several blocks, and rows so far
# from each other that some are read at a time
SHAPES = [
    (2, 3, 1),
    (1, 1, 15),
    (3, 2, 17),
    (2, 33, 49),
    (5, 16, 31),
    (1, 3, 4113),
    (131, 17, 2),
    (19, 20, 61),
    (5, 1030, 4),
]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """That a kernel serves, whatever is asked for in it."""
    return use(request.param, monkeypatch)[0]


def inputs(layout: str, dtype: torch.dtype, shape: tuple[int, int, int]) -> dict[str, Any]:
    lay, axis = LAYOUTS[layout]
    x, dy, residual = (lay(random(*shape, seed=seed)).to(dtype) for seed in range(3))
    weight, bias = parameters(shape[1], x)
    return {"x": x, "weight": weight, "bias": bias, "dy": dy, "axis": axis, "residual": residual}


def computed(x: Any, weight: Any, bias: Any, dy: Any, axis: int, residual: Any) -> Found:
    return by_kernel(x, weight, bias, dy, axis, After("relu", residual=residual))


class Bands:
    """In the place of `alloc`: what it hands out is NaN, and lies between numbers that must stay as they are."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.all: list[tuple[torch.Tensor, int]] = []

    def empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return self.empty_like(torch.empty(shape, dtype=dtype))

    def empty_like(self, x: torch.Tensor) -> torch.Tensor:
        before = BESIDE + self.start
        whole = torch.full((before + x.numel() + BESIDE,), UNTOUCHED, dtype=x.dtype)
        whole[before : before + x.numel()] = torch.nan
        self.all.append((whole, x.numel()))
        return whole.as_strided(x.shape, x.stride(), before)

    def check(self) -> None:
        assert self.all
        for whole, inside in self.all:
            before = BESIDE + self.start
            assert (whole[:before] == UNTOUCHED).all()
            assert (whole[before + inside :] == UNTOUCHED).all()
            assert not whole[before : before + inside].isnan().any()


@pytest.fixture(params=[0, 1], ids=["aligned", "unaligned"])
def bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bands:
    made = Bands(request.param)
    monkeypatch.setattr(alloc, "empty", made.empty)
    monkeypatch.setattr(alloc, "empty_like", made.empty_like)
    return made


@each_kernel
@dtypes
@shapes
@pytest.mark.parametrize("threads", [1, 3])
def test_all_of_the_outputs_and_nothing_else(
    layout: str, dtype: torch.dtype, shape: tuple[int, int, int], threads: int, bands: Bands
) -> None:
    given = inputs(layout, dtype, shape)
    torch.set_num_threads(threads)
    found = computed(**given)
    bands.check()
    bands.all.clear()
    assert bits_of(computed(**given)) == bits_of(found)


@each_kernel
@dtypes
@shapes
def test_nothing_beside_the_inputs(layout: str, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    """They end where memory ends: to read one number more would end the process."""
    given = inputs(layout, dtype, shape)
    expected = bits_of(computed(**given))
    at_the_end = {name: before_nothing(a) if isinstance(a, torch.Tensor) else a for name, a in given.items()}
    assert bits_of(computed(**at_the_end)) == expected


def before_nothing(a: torch.Tensor) -> torch.Tensor:
    """A copy, in the same layout, after which comes a page that must not be touched."""
    size = a.numel() * a.element_size()
    whole = (-(-size // mmap.PAGESIZE) + 1) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, whole), np.uint8)
    last = memory.ctypes.data + whole - mmap.PAGESIZE
    library = ctypes.CDLL(None, use_errno=True)
    assert library.mprotect(ctypes.c_void_p(last), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    storage = torch.from_numpy(memory).untyped_storage()
    start = (whole - mmap.PAGESIZE - size) // a.element_size()
    return torch.empty(0, dtype=a.dtype).set_(storage, start, a.shape, a.stride()).copy_(a)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("contiguous", (3, 2, 17)), ("contiguous", (2, 3, 200)), ("contiguous", (1, 3, 5)), ("rows", (3, 32, 7)),
     ("short", (3, 64, 7))],
    indirect=["layout"], ids=str,
)  # fmt: skip
@dtypes
def test_past_the_caches(
    layout: str, shape: tuple[int, int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, bands: Bands
) -> None:
    """What decides about it only looks at the size; the numbers are the same to the bit."""
    if bands.start and shape[1] % 16 == 0:
        pytest.skip("memory for rows and short runs is aligned, as all of PyTorch's is")
    given = inputs(layout, dtype, shape)
    expected = bits_of(computed(**given))
    monkeypatch.setattr(batch_norm, "PAST", 0)
    monkeypatch.setattr(batch_norm, "FULL_LINES", 1)
    batch_norm._plan.cache_clear()
    seen = []
    decide = batch_norm._past
    monkeypatch.setattr(batch_norm, "_past", lambda *given: seen.append(decide(*given)) or seen[-1])
    assert bits_of(computed(**given)) == expected
    bands.check()
    assert seen == [dtype.itemsize] * 2


@pytest.mark.parametrize(
    ("shape", "dtype", "one_by_one"),
    [((32, 1024, 14, 14), torch.float32, False), ((32, 1024, 14, 14), torch.float16, False),
     ((8, 256, 14, 14), torch.float32, True), ((16, 256, 14, 14), torch.bfloat16, True),
     ((8, 512, 7, 7), torch.float32, False), ((32, 64, 32, 32), torch.float32, False),
     ((32, 64, 41, 25), torch.float32, True), ((8, 1024, 31, 33), torch.float32, True),
     ((32, 3, 14, 14), torch.float32, True)],
)  # fmt: skip
def test_what_goes_side_by_side(shape: tuple[int, ...], dtype: torch.dtype, one_by_one: bool) -> None:
    """Few positions, or not quite so few of many samples; past the caches goes what fills its lines."""
    x = torch.empty(shape, dtype=dtype, device="meta")
    lies = batch_norm._layout(x, 1)
    assert lies is not None
    assert batch_norm._is_short(lies, 2, x) is not one_by_one
    full = not one_by_one or lies.positions % 16 == 0 or lies.positions >= 1024
    assert (batch_norm._past(x, lies, 2) == dtype.itemsize) is (x.nbytes >= batch_norm.PAST and full)


@each_kernel
@dtypes
def test_in_memory_that_was_in_use_before(layout: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(layout, dtype, (4, 17, 300))
    expected = computed(**given)
    strides = {name: each.stride() for name, each in expected.items()}
    expected = bits_of(expected)
    monkeypatch.setattr(alloc, "LEAST", 0)
    for _ in range(3):
        found = computed(**given)
        assert {name: each.stride() for name, each in found.items()} == strides
        assert bits_of(found) == expected
