"""Which kernel serves a tensor. The only place where this is decided."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch._C import _get_tracing_state, _len_torch_dispatch_stack
from torch._C._functorch import maybe_current_level
from torch.autograd import forward_ad
from torch.compiler import is_compiling, is_exporting

from normlab import errors
from normlab.kernels.activation import NOTHING, Activation, After

Backend = Literal["stock", "registered", "formula", "fused"]
Op = Literal["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"]
Choice = Literal["auto", "torch", "fused"]
# of PyTorch's, those that write statistics into a tensor, which no transform of `torch.func` can follow
WRITES: tuple[Op, ...] = ("batch_norm", "instance_norm")
# in the place of the choice, for tests that hold every backend against PyTorch
forced: Backend | None = None
_launchers: dict[str, Any] = {}

# Values below which nobody looks further: there PyTorch's are faster than any kernel that is called from Python.
LEAST: dict[Op, int] = {
    "batch_norm": 1 << 16, "layer_norm": 1 << 19, "group_norm": 1 << 21, "instance_norm": 1 << 16, "rms_norm": 1 << 15,
}  # fmt: skip


def is_small(op: Op, x: Tensor) -> bool:
    """Whether a norm without a mask is PyTorch's without looking further; to look takes as long as a small norm."""
    return (
        forced is None and _chosen != "fused" and type(x) is Tensor and x.numel() < LEAST[op]
        and (op not in WRITES or maybe_current_level() is None)
    )  # fmt: skip


def pick(op: Op, x: Tensor, mask: Tensor | None, sets: int = 1, after: After = NOTHING, given: bool = False) -> Backend:
    """What computes a norm of `x`, forward and backward.

    * `fused`: our kernels, for large tensors on the processor.
    * `stock`: the function of `torch.nn.functional`, with PyTorch's own gradient.
    * `registered`: our op of `torch.library`, that keeps `x` and the statistics for its backward, with or without mask.
    * `formula`: plain torch operations, which every transform of `torch.func` takes apart.

    A registered op costs 30 µs more forward and 80 µs with backward than the stock one at (8, 64), and has the formula
    behind it: so it serves what the stock one cannot. `torch.func.grad` refuses registered ops.

    Args:
        op: the norm.
        x: the values.
        mask: where they are real; None for everywhere.
        sets: what tells the sets of this norm: the axis of the channels, the groups, or how many dimensions are
            normalized.
        after: what follows the norm.
        given: whether it normalizes by given statistics.

    Raises:
        InvalidInputError: `fused` was asked for, and there is no such kernel for this.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> pick("batch_norm", x, None), pick("batch_norm", x, torch.ones(2, dtype=torch.bool))
        ('stock', 'registered')
    """
    if forced is not None:
        return forced
    choice = _chosen if isinstance(x, Tensor) else "torch"  # torch.fx follows what is none
    if choice == "fused":
        if reason := why_not_fused(op, x, mask, sets, after):
            fix = 'choose "auto", which takes PyTorch\'s kernel where there is no other.'
            problem = errors.Problem("there is no fused kernel for this.", f"{reason}; {errors.describe(x=x)}", fix)
            errors.invalid_input(op, [problem])
        return "fused"
    if choice == "auto" and mask is None and x.numel() >= LEAST[op] and _pays(op, x, sets, after, given):
        return "fused"
    if transformed() and (mask is not None or op in WRITES):
        return "formula"
    if mask is None:
        return "stock"
    return "formula" if is_exporting() else "registered"  # who reads what is exported has no op of ours


def why_not_fused(op: Op, x: Tensor, mask: Tensor | None = None, sets: int = 1, after: After = NOTHING) -> str:
    """Why our kernels cannot compute this, whatever its size; nothing if they can."""
    if mask is not None:
        return "it has a mask"
    return _why_not_here(x) or _kernels(op).why_not(x, sets, after)


def _why_not_here(x: Tensor) -> str:
    """Why no kernel can read these numbers, whatever the norm."""
    if not x.is_cpu:
        return f"it lies on {x.device.type}"
    if type(x) not in (Tensor, nn.Parameter) or transformed():
        return "it is followed by a transform or a subclass of Tensor"
    if is_exporting():
        return "it is exported"
    if not is_compiling():
        if _watched():
            return "its operations are watched one by one"
        if x.layout != torch.strided or x.is_neg():
            return "its numbers do not lie in memory as they are"
    return ""


def _pays(op: Op, x: Tensor, sets: int, after: After, given: bool) -> bool:
    """Whether there is a kernel for this, and it is faster than PyTorch's."""
    if _why_not_here(x):
        return False
    if is_compiling() or not after.fits(x):
        return _is_worth(op, x, sets, after, given)
    added = after.residual is not None
    return _pays_for(op, x.shape, x.stride(), x.dtype, sets, after.activation, added, given)


@lru_cache(4096)
def _pays_for(
    op: Op, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, sets: int, activation: Activation,
    added: bool, given: bool,
) -> bool:  # fmt: skip
    like = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
    return _is_worth(op, like, sets, After(activation, residual=like if added else None), given)


def _is_worth(op: Op, x: Tensor, sets: int, after: After, given: bool) -> bool:
    kernels = _kernels(op)
    return not kernels.why_not(x, sets, after) and x.numel() >= kernels.least(x, sets, after, given)


def explained(op: Op, x: Tensor, sets: int = 1, after: After = NOTHING) -> tuple[Backend, str]:
    """What computes a norm of `x`, and why.

    Example:
        >>> explained("batch_norm", torch.zeros(64, 64))
        ('stock', 'of 4,096 values; ours is faster from 4,194,304 on')
    """
    backend = pick(op, x, None, sets, after)
    if reason := why_not_fused(op, x, None, sets, after):
        return backend, reason
    least = f"ours is faster from {_kernels(op).least(x, sets, after, False):,} on"
    asked = "" if _chosen == "auto" else f"{_chosen} was asked for; "
    return backend, f"{asked}of {x.numel():,} values; {least}"


def _kernels(op: Op) -> Any:
    """The launchers of an op, which are imported when a tensor is first large enough."""
    if not _launchers:
        from normlab.kernels.cpu import batch_norm, group_norm, layer_norm, rms_norm

        _launchers.update(
            batch_norm=batch_norm, layer_norm=layer_norm, group_norm=group_norm, instance_norm=group_norm,
            rms_norm=rms_norm,
        )  # fmt: skip
    return _launchers[op]


@contextmanager
def backend(choice: Choice) -> Iterator[None]:
    """Norms are computed by one backend within this context, whatever the size.

    Args:
        choice: `torch`, PyTorch's own functions; `fused`, our kernels, or an error where there is none; or `auto`, the
            faster one. Outside of any context the environment variable NORMLAB_BACKEND decides, or else `auto`.

    Raises:
        InvalidInputError: there is no such backend.

    Example:
        >>> with backend("torch"):
        ...     pick("batch_norm", torch.zeros(64, 64, 64), None)
        'stock'
    """
    global _chosen  # a plain variable, as torch.compile looks at it
    before, _chosen = _chosen, _checked(choice, "backend")
    try:
        yield
    finally:
        _chosen = before


def chosen() -> Choice:
    """The backend that was asked for."""
    return _chosen


def _checked(choice: Any, where: str) -> Choice:
    if choice not in get_args(Choice):
        rule = f"the backend must be one of {', '.join(get_args(Choice))}."
        problem = errors.Problem(rule, repr(choice), errors.did_you_mean(str(choice), get_args(Choice)))
        errors.invalid_input(where, [problem])
    checked: Choice = choice
    return checked


def transformed() -> bool:
    """Whether this runs inside of a transform of `torch.func`."""
    return maybe_current_level() is not None


def _watched() -> bool:
    """By a mode of dispatch, by `torch.jit.trace`, or for the derivative forward."""
    return bool(_len_torch_dispatch_stack() or _get_tracing_state() is not None or forward_ad._current_level >= 0)


_chosen: Choice = _checked(os.environ.get("NORMLAB_BACKEND") or "auto", "NORMLAB_BACKEND")
