"""Kernels run on the threads of PyTorch: as many as it uses, from wherever they are called."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.kernels.batch_norm_cases import KERNELS, LAYOUTS, Found, bits_of, by_kernel, parameters, use
from tests.layers.oracle import random

from normlab.kernels.activation import NOTHING
from normlab.kernels.cpu import team

each_kernel = pytest.mark.parametrize("kernel", KERNELS, indirect=True)
Kernel = tuple[str, tuple[int, int, int]]


@pytest.fixture
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return use(request.param, monkeypatch)


def computed(kernel: Kernel, seed: int = 0) -> Found:
    (lay, axis), shape = LAYOUTS[kernel[0]], kernel[1]
    x = lay(random(*shape, seed=seed, mean=3.0, dtype=torch.float32))
    return by_kernel(x, *parameters(5, x), lay(random(*shape, seed=9, dtype=torch.float32)), axis, NOTHING)


@each_kernel
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_the_same_bits_each_time(kernel: Kernel, threads: int) -> None:
    torch.set_num_threads(threads)
    first = bits_of(computed(kernel))
    for _ in range(3):
        assert bits_of(computed(kernel)) == first


@each_kernel
def test_from_other_threads_and_from_several_at_once(kernel: Kernel) -> None:
    """Each of which has its own number of threads, as in PyTorch."""

    def many(seeds: range) -> list[dict[str, bytes]]:
        torch.set_num_threads(2)
        return [bits_of(computed(kernel, seed)) for seed in seeds]

    expected = many(range(12))
    with ThreadPoolExecutor(3) as pool:
        found = [each.result() for each in [pool.submit(many, range(12)) for _ in range(3)]]
    assert found == [expected] * 3


def test_as_many_as_pytorch() -> None:
    assert team.openmp().parallel is not None  # on the machines that the tests run on
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert team.size() == threads


@pytest.fixture
def without_openmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch, "__file__", "/nowhere/torch/__init__.py")  # beside which it is looked for
    team.openmp.cache_clear()
    yield
    team.openmp.cache_clear()


@each_kernel
def test_without_openmp_there_is_one(kernel: Kernel, without_openmp: None) -> None:
    torch.set_num_threads(1)
    expected = bits_of(computed(kernel))
    torch.set_num_threads(2)
    assert team.openmp() == (None, 0, 0)
    assert team.size() == 1
    assert bits_of(computed(kernel)) == expected


@pytest.mark.parametrize("value", [0.0, 1e-5, -1.5, torch.inf])
def test_bits_of_a_number(value: float) -> None:
    assert team.bits(value) == torch.tensor(value, dtype=torch.float64).view(torch.int64).item()


FORKED = """
import os, sys, torch
from torch.utils.data import DataLoader
from normlab import layers
from normlab.kernels.pick import backend

def step(seed):
    torch.manual_seed(seed)
    x = torch.randn(8, 16, 900, requires_grad=True)
    layer = layers.BatchNorm1d(16)
    with backend("fused"):
        y = layer(x)
    y.backward(torch.randn(8, 16, 900))
    return torch.cat([each.detach().flatten() for each in (y, x.grad, layer.weight.grad)])

class Steps:
    def __len__(self):
        return 4
    def __getitem__(self, seed):
        return step(seed)

torch.set_num_threads(1)
expected = [step(seed) for seed in range(4)]
torch.set_num_threads(2)
step(0)  # the team of the parent, which no child has
found = list(DataLoader(Steps(), batch_size=None, num_workers=2, multiprocessing_context="fork"))
assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
torch.set_num_threads(2)
step(0)
print("done")
"""


def test_in_forked_workers() -> None:
    """Of a loader, which gives each one thread: they must neither wait for the parent's threads nor end them."""
    ran = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=100, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "done"), ran.stderr[-2000:]
