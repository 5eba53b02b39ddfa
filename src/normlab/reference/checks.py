"""What every op asks of its arguments, as problems to be raised together.

What something is comes first (an array of real numbers); the rules of shape are only asked of such arrays,
and all that are broken are raised at once.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Real

from normlab import errors
from normlab.errors import Problem

# The annotation of an argument whose shape we check ourselves, so that our message is the one that is read.
RealArray = Real[np.ndarray, "..."]


def real(where: str, **arrays: Any) -> dict[str, Any]:
    """The arrays by name, each as float64; None stays None.

    Integers and floats of up to 64 bits are converted (exactly, but for integers beyond 2⁵³, which round).
    Booleans, complex numbers, wider floats and anything that is not a NumPy array are refused: nothing is
    guessed or narrowed.

    Args:
        where: The function that is asking, for the message.
        **arrays: The arguments by name.

    Raises:
        InvalidInputError: Something is not an array of real numbers.

    Example:
        >>> real("relu", x=np.array([1, 2], dtype=np.int8), weight=None)
        {'x': array([1., 2.]), 'weight': None}
    """
    errors.invalid_input(
        where,
        (
            Problem(
                f"`{name}` must be a NumPy array of real numbers of at most 64 bits.",
                got=errors.describe(**{name: value}),
                fix=f"pass np.asarray({name}, dtype=np.float64).",
            )
            for name, value in arrays.items()
            if value is not None and not _is_real(value)
        ),
    )
    return {name: None if value is None else value.astype(np.float64, copy=False) for name, value in arrays.items()}


def _is_real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.dtype.itemsize <= 8


def shaped(
    arrays: dict[str, Any], name: str, shape: tuple[int, ...], meaning: str, *, fix: str = ""
) -> Iterator[Problem]:
    """A problem when the array called `name` is there and has not this shape; `x` is shown beside it."""
    value = arrays.get(name)
    if value is not None and value.shape != shape:
        shown = {name: value} | {other: arrays[other] for other in ("x",) if other in arrays}
        yield Problem(
            f"`{name}` must have shape {shape}, {meaning}.",
            got=errors.describe(**shown),
            fix=fix or f"pass an array of shape {shape}.",
        )


def parameters(arrays: dict[str, Any], shape: tuple[int, ...], meaning: str) -> Iterator[Problem]:
    """Problems of `weight` and `bias`, both optional, both of this shape."""
    for name in ("weight", "bias"):
        yield from shaped(arrays, name, shape, meaning, fix=f"pass an array of shape {shape}, or None.")


def upstream(arrays: dict[str, Any]) -> Iterator[Problem]:
    """A problem when `dy` has not the shape of `x` (for ops whose output is shaped like their input)."""
    yield from shaped(arrays, "dy", arrays["x"].shape, "that of the output")


def epsilon(eps: float) -> Iterator[Problem]:
    """A problem when `eps` is negative, infinite or NaN."""
    if not (math.isfinite(eps) and eps >= 0):
        yield Problem("`eps` must be a finite number, not negative.", got=f"eps = {eps}", fix="pass eps=1e-5.")


def momentum(value: float) -> Iterator[Problem]:
    """A problem when the momentum of running statistics is outside [0, 1]."""
    if not 0 <= value <= 1:
        fix = "momentum is the weight of the new batch; keep-momentum 0.9 is momentum=0.1."
        yield Problem("`momentum` must lie in [0, 1].", got=f"momentum = {value}", fix=fix)


def not_negative(**numbers: float) -> Iterator[Problem]:
    """A problem for each number that is negative, infinite or NaN."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number >= 0):
            yield Problem(f"`{name}` must be a finite number, not negative.", got=f"{name} = {number}")


def per_dim(name: str, value: Any, dims: int, *, least: int) -> tuple[tuple[int, ...], list[Problem]]:
    """A setting given once, or once for each spatial dimension, and what is wrong with it.

    Example:
        >>> per_dim("stride", 2, 3, least=1)
        ((2, 2, 2), [])
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dims
    if len(values) == dims and all(isinstance(v, int | np.integer) and v >= least for v in values):
        return values, []
    problem = Problem(
        f"`{name}` must be an integer of at least {least}, or {dims} of them, one per spatial dimension.",
        got=f"{name} = {value}",
    )
    return (max(least, 1),) * dims, [problem]
