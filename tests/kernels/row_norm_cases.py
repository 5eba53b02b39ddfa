"""Layer, RMS and group norm by our kernels, by PyTorch, and by the reference; and the memory the kernels write to."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from tests.layers.oracle import random
from tests.tolerances import beside_torch
from torch import Tensor
from torch.nn import functional

from normlab import reference
from normlab.kernels import alloc
from normlab.kernels.cpu import launch
from normlab.kernels.cpu.group_norm import group_norm_bwd, group_norm_fwd
from normlab.kernels.cpu.layer_norm import layer_norm_bwd, layer_norm_fwd
from normlab.kernels.cpu.rms_norm import rms_norm_bwd, rms_norm_fwd

EPS = 1e-5
GUARD, UNTOUCHED = 64, -7.0  # numbers before and after each output, and what they are
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
Found = dict[str, Tensor]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


class Norm(NamedTuple):
    """A norm three times. Each takes x, weight, bias, what tells its sets (dimensions or groups), and dy."""

    kernel: Callable[..., tuple[Tensor, tuple[Tensor, ...]]]  # statistics, and y, dx, dweight, dbias
    torch: Callable[..., Tensor]  # y
    reference: Callable[..., Any]  # y in NumPy
    vjp: Callable[..., Any]  # dx, dweight, dbias in NumPy


def _layer(x: Tensor, weight: Any, bias: Any, dims: int, dy: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    y, statistics = layer_norm_fwd(x, weight, bias, dims, EPS)
    return statistics, (y, *layer_norm_bwd(dy, x, weight, statistics, dims))


def _rms(x: Tensor, weight: Any, bias: None, dims: int, dy: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    y, statistics = rms_norm_fwd(x, weight, dims, EPS)
    return statistics, (y, *rms_norm_bwd(dy, x, weight, statistics, dims))


def _group(x: Tensor, weight: Any, bias: Any, groups: int, dy: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    y, statistics = group_norm_fwd(x, weight, bias, groups, EPS)
    return statistics, (y, *group_norm_bwd(dy, x, weight, statistics, groups))


def _last(x: Any, dims: int) -> tuple[int, ...]:
    return tuple(x.shape[x.ndim - dims :])


LAYER = Norm(
    _layer,
    lambda x, weight, bias, dims: functional.layer_norm(x, _last(x, dims), weight, bias, EPS),
    lambda x, weight, bias, dims: reference.layer_norm(x, _last(x, dims), weight, bias, eps=EPS),
    lambda dy, x, weight, bias, dims: reference.layer_norm_vjp(dy, x, _last(x, dims), weight, bias, eps=EPS),
)
RMS = Norm(
    _rms,
    lambda x, weight, bias, dims: functional.rms_norm(x, _last(x, dims), weight, EPS),
    lambda x, weight, bias, dims: reference.rms_norm(x, _last(x, dims), weight, eps=EPS),
    lambda dy, x, weight, bias, dims: reference.rms_norm_vjp(dy, x, _last(x, dims), weight, eps=EPS),
)
GROUP = Norm(
    _group,
    lambda x, weight, bias, groups: functional.group_norm(x, groups, weight, bias, EPS),
    lambda x, weight, bias, groups: reference.group_norm(x, groups, weight, bias, eps=EPS),
    lambda dy, x, weight, bias, groups: reference.group_norm_vjp(dy, x, groups, weight, bias, eps=EPS),
)


def _outlier(x: Tensor) -> Tensor:
    """The first value of each set is far from all others."""
    x = x.clone()
    x.flatten(1)[:, 0] = 1e4 if x.dtype == torch.float16 else 1e6
    return x


REGIMES: dict[str, tuple[Any, float]] = {  # and how large the numbers are beside their deviation
    "unit": (lambda x: x, 1.0),
    "mean 1e3": (lambda x: 1e3 + x, 1e4),
    "tiny beside the mean": (lambda x: 1 + 1e-6 * x, 1e6),
    "tiny beside eps": (lambda x: 1e-6 * x, 1.0),
    "constant": (lambda x: 0 * x + 7.3, 1e4),
    "huge": (lambda x: (1e4 if x.dtype == torch.float16 else 1e18) * x, 1.0),
    "first an outlier": (_outlier, 1.0),
}


def given(
    shape: tuple[int, ...], parameters: tuple[int, ...], dtype: torch.dtype = torch.float32, regime: str = "unit",
    *, bias: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:  # fmt: skip
    """x, weight, bias and dy. PyTorch wants parameters of the dtype of x, and so they are."""
    x = REGIMES[regime][0](random(*shape).to(dtype)).to(dtype)
    weight, shift = random(*parameters, seed=1, dtype=dtype), random(*parameters, seed=2, dtype=dtype)
    return x, weight, shift if bias else None, random(*shape, seed=3, dtype=dtype)


def by_kernel(norm: Norm, x: Tensor, weight: Any, bias: Any, sets: int, dy: Tensor) -> Found:
    return dict(zip(("y", "dx", "dweight", "dbias"), norm.kernel(x, weight, bias, sets, dy)[1], strict=False))


def by_torch(norm: Norm, x: Tensor, weight: Any, bias: Any, sets: int, dy: Tensor) -> Found:
    inputs = {"dx": x, "dweight": weight, "dbias": bias}
    leaves = {name: each.detach().clone().requires_grad_() for name, each in inputs.items() if each is not None}
    y = norm.torch(leaves["dx"], leaves.get("dweight"), leaves.get("dbias"), sets)
    gradients = torch.autograd.grad(y, list(leaves.values()), dy)
    return {"y": y.detach()} | dict(zip(leaves, gradients, strict=True))


def by_reference(norm: Norm, x: Tensor, weight: Any, bias: Any, sets: int, dy: Tensor) -> Found:
    above, *values = (None if each is None else each.double().numpy() for each in (dy, x, weight, bias))
    found = [norm.reference(*values, sets), *norm.vjp(above, *values, sets)]
    names = ("y", "dx", "dweight", "dbias")
    return {name: torch.as_tensor(each) for name, each in zip(names, found, strict=False) if each is not None}


def held(norm: Norm, x: Tensor, weight: Any, bias: Any, sets: int, dy: Tensor, *, condition: float = 1.0) -> Found:
    """What the kernels find, after it was held against the reference and PyTorch.

    The gradients of parameters, which the kernels leave in the dtype of the statistics, are rounded as PyTorch's.
    """
    ours, stock, exact = (by(norm, x, weight, bias, sets, dy) for by in (by_kernel, by_torch, by_reference))
    assert ours["y"].dtype == ours["dx"].dtype == x.dtype
    for name, truth in exact.items():
        mine = ours[name].to(stock[name].dtype).view(stock[name].shape)
        beside_torch(mine, stock[name], truth, name, condition=condition)
    return ours


def same_bits(one: Found, other: Found) -> bool:
    """Whatever is NaN."""
    return all(torch.equal(each.view(torch.uint8), other[name].view(torch.uint8)) for name, each in one.items())


def guarding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While it lasts, all memory that the kernels are given is NaN, and lies between numbers that must not change."""
    buffers: list[Tensor] = []

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        buffers.append(torch.full((math.prod(shape) + 2 * GUARD,), UNTOUCHED, dtype=dtype))
        inside = buffers[-1][GUARD:-GUARD]
        return inside.fill_(torch.nan).view(shape)

    monkeypatch.setattr(alloc, "empty", empty)
    monkeypatch.setattr(alloc, "empty_like", lambda x: empty(*x.shape, dtype=x.dtype))
    yield
    for each in buffers:
        assert (each[:GUARD] == UNTOUCHED).all()
        assert (each[-GUARD:] == UNTOUCHED).all()


def share(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """Has so many threads share a tensor, however small it is."""
    torch.set_num_threads(threads)
    monkeypatch.setattr(launch, "GRAIN", 1)
