"""Batch norm by our kernels, by PyTorch, and by the reference in float64."""

import math
from typing import Any

import pytest
import torch
from tests.layers.oracle import random
from tests.tolerances import beside_torch
from torch import Tensor

from normlab import reference
from normlab.kernels.activation import NOTHING, After
from normlab.kernels.cpu import batch_norm as launcher
from normlab.kernels.cpu.batch_norm import batch_norm_bwd, batch_norm_fwd
from normlab.kernels.cpu.elements import wide

EPS = 1e-5
# So near to where ReLU has two derivatives nothing comes from above: which of them it is would be a matter of rounding.
KINK = 0.02
# (N, C, S) to what a user has, and the axis of its channels.
LAYOUTS: dict[str, Any] = {
    "contiguous": (lambda x: x.contiguous(), 1),
    "rows": (lambda x: x.transpose(1, 2).flatten(0, 1).contiguous(), 1),
    "pictures": (lambda x: _pictures(x).contiguous(memory_format=torch.channels_last), 1),
    "volumes": (lambda x: _pictures(x).unsqueeze(2).contiguous(memory_format=torch.channels_last_3d), 1),
    "axis -1": (lambda x: x.transpose(1, 2).contiguous(), -1),
}
# For each kernel the layout that it serves, how many positions are few to the launcher, and a shape of which it takes
# more than a block, that is no multiple of the lanes.
KERNELS = {
    "contiguous": ("contiguous", 0, (6, 5, 700)),
    "short": ("contiguous", 1 << 30, (150, 5, 28)),
    "rows": ("rows", 0, (6, 5, 700)),
}
Found = dict[str, Tensor]


def _pictures(x: Tensor) -> Tensor:
    positions = x.shape[-1]
    height = next(each for each in (7, 5, 3, 2, 1) if positions % each == 0)
    return x.unflatten(-1, (height, positions // height))


def parameters(channels: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the dtype of the statistics."""
    return random(channels, seed=1, dtype=wide(x)), random(channels, seed=2, dtype=wide(x))


def by_kernel(
    x: Tensor, weight: Any, bias: Any, dy: Tensor, axis: int = 1, after: After = NOTHING, given: Any = None
) -> Found:
    known = None
    if given is not None:
        mean, var = given
        known = torch.stack([mean, torch.zeros_like(mean), (var + EPS).rsqrt(), var])
    y, statistics = batch_norm_fwd(x, weight, bias, axis, EPS, after, known)
    dx, dweight, dbias, dr = batch_norm_bwd(dy, x, weight, bias, statistics, axis, after, given=given is not None)
    found = {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias}
    return found | ({} if dr is None else {"dresidual": dr})


def by_torch(
    x: Tensor, weight: Any, bias: Any, dy: Tensor, axis: int = 1, after: After = NOTHING, given: Any = None
) -> Found:
    """In the dtypes of what it is given."""
    mean, var = given or (None, None)
    inputs = {"x": x, "weight": weight, "bias": bias, "residual": after.residual}
    leaves = {name: each.detach().clone().requires_grad_() for name, each in inputs.items() if each is not None}
    moved = leaves["x"].movedim(axis, 1)
    y = torch.batch_norm(moved, leaves.get("weight"), leaves.get("bias"), mean, var, given is None, 0.0, EPS, False)
    y = after._replace(residual=leaves.get("residual")).of(y.movedim(1, axis))
    gradients = torch.autograd.grad(y, list(leaves.values()), dy)
    return {"y": y.detach()} | {f"d{name}": each for name, each in zip(leaves, gradients, strict=True)}


def by_reference(
    x: Tensor, weight: Any, bias: Any, dy: Tensor, axis: int = 1, after: After = NOTHING, given: Any = None
) -> Found:
    """NumPy in float64, on (1, C, N · S), along which it sums in pairs; the activation is PyTorch's in float64."""

    def seen(a: Tensor) -> Tensor:
        return a.double().movedim(axis, 0).flatten(1).contiguous().unsqueeze(0)

    def back(a: Tensor) -> Tensor:
        return a.reshape(x.movedim(axis, 0).shape).movedim(0, axis)

    mean, var = (None, None) if given is None else (each.double().numpy() for each in given)
    how: dict[str, Any] = {"eps": EPS, "running_mean": mean, "running_var": var, "training": given is None}
    learned = [None if each is None else each.double().numpy() for each in (weight, bias)]
    z = torch.from_numpy(reference.batch_norm(seen(x).numpy(), *learned, **how))
    z = (z if after.residual is None else z + seen(after.residual)).requires_grad_()
    y = after._replace(residual=None).of(z)
    dz = torch.autograd.grad(y, z, seen(dy))[0]
    gradients = reference.batch_norm_vjp(dz.numpy(), seen(x).numpy(), *learned, **how)
    dx, dweight, dbias = (None if each is None else torch.from_numpy(each) for each in gradients)
    found = {"y": back(y.detach()), "dx": back(dx), "dweight": dweight, "dbias": dbias}
    found |= {} if after.residual is None else {"dresidual": back(dz)}
    return {name: each for name, each in found.items() if each is not None}


def away_from_the_kink(
    dy: Tensor, x: Tensor, weight: Any, bias: Any, axis: int = 1, after: After = NOTHING, given: Any = None
) -> Tensor:
    """`dy`, 0 where the sign of what is activated is a matter of rounding."""
    if after.activation not in ("relu", "leaky_relu"):
        return dy
    z = by_reference(x, weight, bias, dy, axis, after._replace(activation="none"), given)["y"]
    return dy.masked_fill(z.abs() < KINK, 0.0)


def held(
    x: Tensor, weight: Any, bias: Any, dy: Tensor, axis: int = 1, after: After = NOTHING, given: Any = None, *,
    condition: float = 1.0, threads: int = 1,
) -> Found:  # fmt: skip
    """What the kernels find, after it was held against the reference and PyTorch."""
    dy = away_from_the_kink(dy, x, weight, bias, axis, after, given)
    stock, exact = (by(x, weight, bias, dy, axis, after, given) for by in (by_torch, by_reference))
    torch.set_num_threads(threads)
    ours = by_kernel(x, weight, bias, dy, axis, after, given)
    torch.set_num_threads(1)
    rows = x.numel() / x.shape[axis]
    for name, truth in exact.items():
        # what is summed over the rows is as far off as a random walk
        walk = math.sqrt(rows) if name in ("dweight", "dbias") else 1.0
        beside_torch(ours[name], stock[name], truth, name, condition=condition * walk)
    return ours


def bits_of(found: Found) -> dict[str, bytes]:
    """To compare to the bit, whatever is NaN."""
    return {name: each.contiguous().flatten().view(torch.uint8).numpy().tobytes() for name, each in found.items()}


def use(kernel: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, tuple[int, int, int]]:
    """Has that kernel serve whatever comes in its layout, and says which that is, and a shape."""
    layout, few, shape = KERNELS[kernel]
    monkeypatch.setattr(launcher, "SHORT", few)
    monkeypatch.setattr(launcher, "LONG", 0)
    launcher._plan.cache_clear()
    return layout, shape
