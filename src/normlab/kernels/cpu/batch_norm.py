"""Batch norm on the processor, with what may follow it: from tensors to the kernel and back."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from normlab import errors
from normlab.kernels import alloc
from normlab.kernels.activation import Activation, After
from normlab.kernels.cpu import compiled, team
from normlab.kernels.cpu.elements import ZERO, at, wide

NEVER = 1 << 62
CODES: dict[Activation, int] = {"none": 0, "relu": 1, "leaky_relu": 2, "silu": 3, "gelu": 4}
# From so many bytes on the output goes past the caches. Forward and backward of (32, 256, 16, 16), 8 MB, take 1.0 ms in
# the place of 1.4, and as long as before if the output is read at once; of 4 MB they take longer. Runs of fewer
# positions than these, which do not fill their lines, must not: at (32, 1024, 14, 14) in float16 forward takes 3.5 ms
# in the place of 1.1.
PAST, FULL_LINES = 8 << 20, 1024
# From so many values on a layer is faster than PyTorch's, forward as well as with backward, in runs and in rows; by
# whether statistics are given, and whether something follows. On two threads, between other work, forward and with
# backward, µs against PyTorch's: with ReLU 77 and 161 against 101 and 182 at (8, 16, 16, 16), in rows 105 and 216
# against 109 and 233 at (8, 64, 16, 16); without, in rows 344 and 801 against 314 and 754 at (32, 128, 16, 16). By
# given statistics it is one map, which PyTorch does as fast.
WORTH = {
    (False, False): (1 << 17, 1 << 22),
    (False, True): (1 << 16, 1 << 17),
    (True, False): (NEVER, NEVER),
    (True, True): (1 << 21, 1 << 21),
}
# Rows of many channels have to be so many: 176 and 389 against 148 and 333 at (32, 2048, 2, 2), which are 128, but 238
# and 525 against 244 and 568 at (32, 1024, 4, 4).
ROWS = 512
# Runs of fewer positions than the first go side by side, and of no more than the second if a position of all samples
# has so many bytes; so many bytes of each sample at a time, or what fills its lines. Forward and backward of (32, 2048,
# 2, 2) take 0.18 ms in the place of 1.15, of (32, 256, 14, 14) 1.3 in the place of 1.9, of (32, 256, 28, 28) 5.0 in the
# place of 5.8, of (8, 256, 14, 14) 0.46 in the place of 0.40, of (32, 64, 35, 35) 2.5 in the place of 2.3. With twice
# or half the columns (32, 512, 16, 16) takes a tenth longer.
SHORT, LONG, TOGETHER, COLUMNS = 50, 1024, 64, 4096
# Bytes of what a core keeps near it: while a channel is mapped the next one is asked for, if both find place there.
# Forward and backward take 5 to 20 % less time, from 32 × 8 × 8 to 32 × 28 × 28 positions. Side by side forward does,
# and backward of 16 bits; that of float32 would take up to a twentieth longer.
NEAR = 1 << 20
WHOLE, SUMS, REST = 0, 1, 2  # phases, as in the kernel


class _Layout(NamedTuple):
    """How the channels lie: (N, C, S), or (N · S, 1) rows of C, which is `last`."""

    samples: int
    channels: int
    positions: int
    last: bool


def why_not(x: Tensor, axis: int, after: After) -> str:
    """Why there is no kernel for this: they take numbers without gaps in memory, channels second or last."""
    if x.dtype not in ZERO:
        return f"it is of {x.dtype}"
    if not x.numel():
        return "it is empty"
    if x.ndim < 2 or _layout(x, axis) is None:
        return "its channels are neither second nor last, or it has gaps in memory"
    if x.dtype == torch.float64 and after.activation in ("silu", "gelu"):
        return f"{after.activation} is computed to the precision of float32"
    if not after.fits(x):
        return "the residual is not like it"
    return ""


def least(x: Tensor, axis: int, after: After, given: bool) -> int:
    """From how many values on it is faster than PyTorch's, with all that comes with a call."""
    lies = _layout(x, axis)
    more = after.activation != "none" or after.residual is not None
    if lies is not None and not lies.last:
        return WORTH[given, more][0]
    return max(WORTH[given, more][1], ROWS * x.shape[axis])


def batch_norm_fwd(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, axis: int, eps: float, after: After,
    given: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y, and the statistics (4, C): the mean, what float32 leaves out of it, 1 / √(var + eps), the biased variance.

    Args:
        x: that `why_not` has nothing against.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        axis: where the channels stand.
        eps: added to the variance.
        after: what follows.
        given: statistics to normalize by, as they are returned, instead of those of x.
    """
    plan = _plan_for("forward", x, axis, after, given is not None)
    _check_channels(plan, x, weight=weight, bias=bias, given=given)
    weight, bias = _parameters(plan, weight, bias)
    y = alloc.empty_like(x)
    statistics = alloc.empty(4, plan.channels, dtype=plan.wide) if given is None else given
    r = _as_x(after.residual, x)
    _run(plan, team.bits(eps), team.bits(after.slope), at(x), at(y), at(r), at(weight), at(bias), at(statistics))
    return y, statistics


def batch_norm_bwd(
    dy: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, statistics: Tensor, axis: int, after: After,
    given: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """dx, dweight, dbias and the gradient of the residual, by what the forward returned.

    Args:
        dy: from above.
        x: as in the forward, as are weight, bias, axis and after.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        statistics: which the forward returned.
        axis: where the channels stand.
        after: what follows.
        given: the statistics did not come from x.
    """
    plan = _plan_for("backward", x, axis, after, given)
    weight, bias = _parameters(plan, weight, bias)
    dx = alloc.empty_like(x)
    r = _as_x(after.residual, x)
    dr = None if r is None else alloc.empty_like(x)
    dweight = alloc.empty(plan.channels, dtype=plan.wide)
    dbias = alloc.empty(plan.channels, dtype=plan.wide)
    above = _as_x(dy, x)
    tensors = at(above), at(x), at(r), at(dx), at(dr), at(weight), at(bias), at(statistics), at(dweight), at(dbias)
    _run(plan, team.bits(after.slope), *tensors)
    return dx, dweight, dbias, dr


class _Plan(NamedTuple):
    """All of a call but the tensors: looked up, as it costs more to decide than a small layer takes."""

    kernel: int
    threads: int
    heads: tuple[tuple[int, ...], ...]  # what each call begins with: one for the sums and one for what needs them all
    channels: int
    wide: torch.dtype
    sums: int  # float64 numbers
    work: int  # float64 numbers in whose place it works


def _plan_for(which: str, x: Tensor, axis: int, after: After, given: bool) -> _Plan:
    added = after.residual is not None
    return _plan(which, x.shape, x.stride(), x.dtype, axis, after.activation, added, given, team.size())


@lru_cache(4096)
def _plan(
    which: str, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, axis: int, activation: Activation,
    added: bool, given: bool, threads: int,
) -> _Plan:  # fmt: skip
    like = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    lies = _layout(like, axis)
    if lies is None:
        raise ValueError("no kernel for this layout: ask `why_not` first")  # pragma: no cover
    samples, channels, positions, last = lies
    mapped_only = given and which == "forward"
    fields, rows_of_work = (3, 3) if which == "forward" else (2, 5)
    past, size = _past(like, lies, threads), wide(like).itemsize
    if last:
        module, parts = "batch_norm_last", max(min(threads, samples // 4), 1)
        width = -(-channels // 16) * 16
        heads = _phases(parts, mapped_only, samples, channels, past, width, 0)
        sums, work = parts * fields * width, parts * rows_of_work * width
    elif _is_short(lies, threads, like):
        module = "batch_norm_short"
        full = 16 // math.gcd(positions, 16)  # channels that fill their lines
        some = max(COLUMNS // like.element_size() // positions // full, 1) * full
        some = min(some, -(-channels // threads))
        width = -(-some * positions // 16) * 16
        past *= some * positions % 16 == 0
        ahead = some * positions if which == "forward" or like.element_size() < 4 else 0
        sums, work = threads * 2 * width, threads * rows_of_work * width
        heads = ((samples, channels, positions, some, width, past, ahead),)
    else:
        # with fewer channels than this one thread would wait for another: each is split
        module, parts = "batch_norm", 1 if channels % threads == 0 or channels >= 8 * threads else threads
        near = samples * positions * like.element_size() * (2 if which == "forward" else 4) <= NEAR
        ahead = positions if near and parts == 1 else 0
        heads = _phases(parts, mapped_only, samples, channels, positions, past, ahead)
        sums, work = parts * fields * channels if parts > 1 else 0, 0
    kernel = compiled.address(module, which, ZERO[dtype], ZERO[wide(like)], CODES[activation], added, given)
    return _Plan(kernel, threads, heads, channels, wide(like), sums, -(-work * size // 8))


def _phases(parts: int, mapped_only: bool, *shape: int) -> tuple[tuple[int, ...], ...]:
    """One call, or one for the sums and one for what needs them all."""
    return tuple((phase, parts, *shape) for phase in ((WHOLE,) if parts == 1 or mapped_only else (SUMS, REST)))


def _run(plan: _Plan, *given: int) -> None:
    sums = team.scratch(8 * (plan.sums + plan.work)) if plan.sums else 0
    for head in plan.heads:
        team.run(plan.kernel, plan.threads, *head, *given, sums, sums + 8 * plan.sums)


def _is_short(lies: _Layout, threads: int, x: Tensor) -> bool:
    """Whether the runs of positions are too short to go one by one, and the channels enough for all threads."""
    enough = lies.positions <= LONG and lies.samples * x.element_size() >= TOGETHER
    return (enough or lies.positions < SHORT) and lies.channels >= 2 * threads


def _past(x: Tensor, lies: _Layout, threads: int) -> int:
    """Bytes of a number, if the output goes past the caches; otherwise 0."""
    size = x.element_size()
    if lies.last or _is_short(lies, threads, x):
        has_lines = lies.channels * lies.positions % 16 == 0
    else:
        has_lines = lies.positions % 16 == 0 or lies.positions >= FULL_LINES
    return size if x.numel() * size >= PAST and has_lines else 0


def _layout(x: Tensor, axis: int) -> _Layout | None:
    axis %= x.ndim
    channels = x.shape[axis]
    if axis == 1 and x.is_contiguous() and x.numel() > x.shape[0] * channels:
        return _Layout(x.shape[0], channels, x.numel() // (x.shape[0] * channels), False)
    if x.movedim(axis, -1).is_contiguous() or _is_channels_last(x, axis):
        return _Layout(x.numel() // channels, channels, 1, True)
    return None


def _is_channels_last(x: Tensor, axis: int) -> bool:
    """As `torch.channels_last`: a movement of the channels to the end leaves no gap."""
    return axis == 1 and (
        (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
        or (x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d))
    )


def _as_x(a: Tensor | None, x: Tensor) -> Tensor | None:
    """Another tensor of that shape, in the layout of `x`."""
    if a is None or (a.stride() == x.stride() and a.dtype == x.dtype and not (a.is_neg() or a._is_zerotensor())):
        return a
    return torch.empty_like(x).copy_(a)


def _check_channels(plan: _Plan, x: Tensor, **each: Tensor | None) -> None:
    """A kernel reads as many numbers as there are channels, wherever it is told that they lie."""
    problems = []
    for name, value in each.items():
        entries = plan.channels * (4 if name == "given" else 1)
        if value is not None and (value.numel() != entries or not value.is_cpu):
            rule = f"`{name}` must have {plan.channels} entries, one for each channel of `x`, and lie where it does."
            problems.append(errors.Problem(rule, errors.describe(**{name: value, "x": x})))
    if problems:
        errors.invalid_input("batch_norm", problems)


def _parameters(plan: _Plan, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    weight = torch.ones(plan.channels, dtype=plan.wide) if weight is None else _plain(weight, plan.wide)
    return weight, torch.zeros(plan.channels, dtype=plan.wide) if bias is None else _plain(bias, plan.wide)


def _plain(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    if parameter.dtype == dtype and parameter.is_contiguous():
        return parameter
    return parameter.detach().to(dtype).contiguous()
