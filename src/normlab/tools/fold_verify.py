"""Changes that are tried on an example, all at once and, if that moves the output too far, one by one."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import nn

from normlab import errors
from normlab.tools.called import call, tensors_in
from normlab.tools.reached import left_alone

# Half precision rounds by more than 1e-4. A change rounds each weight of a layer once more and leaves out the rounding
# between two layers, so that a few roundings of the largest value are no sign that it is wrong.
ROUNDINGS = 16

Change = TypeVar("Change")


@contextmanager
def full_float32() -> Iterator[None]:
    """Float32 is computed as such: with TF32, cuDNN's default, a convolution is off by more than a fold may be.

    Where the program has frozen these settings (`torch.backends.disable_global_flags`), they are left alone.
    """
    backends: Any = torch.backends
    if backends.flags_frozen():
        yield
        return
    parts = (
        backends, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul,
        backends.mkldnn, backends.mkldnn.conv, backends.mkldnn.matmul,
    )  # fmt: skip
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = "none"
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def outputs_of(model: nn.Module, example: Any, training: bool = False) -> list[torch.Tensor]:
    """The floating-point outputs of a model on an example, which leaves no trace in the model."""
    with left_alone(model), full_float32():
        model.train(training)
        found = tensors_in(call(model, example))
        return [each.detach().clone() for each in found if each.is_floating_point()]


def relative_error(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    """The largest difference, each output by itself relative to its largest value; infinite if they cannot be compared.

    Example:
        >>> relative_error([torch.tensor([2.0, 4.0])], [torch.tensor([2.0, 3.0])])
        0.25
    """
    if [each.shape for each in before] != [each.shape for each in after]:
        return math.inf
    return max((_error(*pair) for pair in zip(before, after, strict=True)), default=0.0)


def allowed(tolerance: float, model: nn.Module, outputs: Sequence[torch.Tensor]) -> float:
    """The tolerance, or `ROUNDINGS` roundings if the model or its output is in half precision.

    Example:
        >>> allowed(1e-4, nn.Linear(2, 2), []), allowed(1e-4, nn.Linear(2, 2).half(), [])
        (0.0001, 0.015625)
    """
    held = (*model.parameters(), *model.buffers(), *outputs)
    halves = [torch.finfo(each.dtype).eps for each in held if each.is_floating_point() and each.element_size() < 4]
    return max([tolerance, *(ROUNDINGS * eps for eps in halves)])


def tolerance_problems(tolerance: object) -> list[errors.Problem]:
    """What is wrong with a tolerance that a user gave."""
    if isinstance(tolerance, Real) and float(tolerance) >= 0:
        return []
    rule = "`tolerance` must be a number that is not negative."
    return [errors.Problem(rule, got=f"tolerance = {tolerance!r}", fix="pass 1e-4.")]


def nothing_to_compare(outputs: Sequence[torch.Tensor]) -> list[errors.Problem]:
    """That no output has a finite value, so that any change of the model would look exact.

    A model whose outputs are whole numbers is compared at its layers alone.
    """
    if not outputs or any(_has_finite(each) for each in outputs):
        return []
    got = "; ".join(f"{tuple(each.shape)}, {'none finite' if each.numel() else 'empty'}" for each in outputs)
    rule = "`example` must give outputs with finite values, to be compared."
    return [errors.Problem(rule, got=f"outputs {got}", fix="pass a batch as the model gets it in use.")]


def settled(
    changes: Sequence[Change],
    make: Callable[[Sequence[Change]], Callable[[], None]],
    measure: Callable[[], float],
    most: float,
) -> tuple[list[Change], dict[Change, str], float]:
    """Makes those changes that keep the error within a bound.

    Args:
        changes: all that is wanted, in order.
        make: makes some of them, and returns what takes them back.
        measure: the error of the model as it stands, relative to what it was without any.
        most: the bound.

    Returns:
        The changes that were made, the reasons for those that were not, and the error with the former.

    Raises:
        What the model raises without any change.
    """
    undo = make(changes)
    error, failure = _tried(measure)
    if is_within(error, most):
        return list(changes), {}, error
    undo()
    last = measure() if failure else 0.0  # what it raises without a change is its own
    kept: list[Change] = []
    reasons: dict[Change, str] = {}
    for change in changes:
        undo = make([*kept, change])
        error, failure = _tried(measure)
        if is_within(error, most):
            kept.append(change)
            last = error
        else:
            reasons[change] = failure or too_far(error, most)
        undo()
    make(kept)
    return kept, reasons, last


def is_within(error: float, most: float) -> bool:
    """Whether an error was measured, and is not too large; also without any bound an infinite one is no error."""
    return math.isfinite(error) and error <= most


def too_far(error: float, most: float) -> str:
    """Why a change was not made."""
    if math.isinf(error):
        return "the output on the example could not be compared with what it was"
    return f"the output would move by {error:.1e} relative on the example, more than {most:.1e}"


def in_short(error: Exception) -> str:
    """The first line of an error.

    Example:
        >>> in_short(ValueError("too few values\\nsee the manual"))
        'ValueError: too few values'
    """
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _tried(measure: Callable[[], float]) -> tuple[float, str]:
    try:
        return measure(), ""
    except Exception as error:
        return math.inf, f"the model would fail: {in_short(error)}"


def _has_finite(tensor: torch.Tensor) -> bool:
    return bool(tensor.isfinite().any())


def _error(before: torch.Tensor, after: torch.Tensor) -> float:
    if not before.numel():
        return 0.0
    one, other = before.cpu().double(), after.cpu().double()  # not every device has float64
    same = (one == other) | (one.isnan() & other.isnan())  # infinite and undefined values must stay what they are
    difference = torch.where(same, 0.0, one - other).abs().max().item()
    largest = torch.where(one.isfinite(), one, 0.0).abs().max().item()
    if math.isnan(difference):
        return math.inf
    return difference / largest if largest else math.inf if difference else 0.0
