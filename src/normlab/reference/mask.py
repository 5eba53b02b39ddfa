"""Masks of batch norm: which positions are real, and what becomes of padding that cannot be computed with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from normlab import errors
from normlab.errors import Problem
from normlab.reference.view import View

Array = Float64[np.ndarray, "..."]
# Bool is asked for by our own message.
Mask = Shaped[np.ndarray, "..."]

# Padding beyond this is junk, as NaN and infinity are: its square, and a product of two such values after they are
# divided by a small deviation, must stay below the largest float64, 1.8e308.
LARGEST = 1e100


@dataclass(frozen=True)
class Padding:
    """Where a batch is padded; nothing is, when there was no mask."""

    real: Bool[np.ndarray, "..."] | None = None  # broadcastable to x as the user knows it
    on_view: Bool[np.ndarray, "n 1 1 s"] | None = None  # the same on the view


def padding_of(where: str, view: View, mask: Mask | None, *, training: bool) -> Padding:
    """What the mask says, once it is known to fit and, in training, that at least one position counts.

    Args:
        where: The function that is asking, for the message.
        view: That of batch norm.
        mask: True where a value is real; broadcastable to (N, *S).
        training: Whether moments will be taken.

    Raises:
        InvalidInputError: The mask is not boolean, does not fit, or leaves nothing to take moments of.
    """
    expected = (view.shape[0], *view.positions)
    real = np.ones(expected, dtype=bool)
    problems = []
    if mask is not None and mask.dtype != np.bool_:
        fix = "pass mask.astype(bool), True where a value is real."
        problems.append(Problem("`mask` must be boolean.", got=errors.describe(mask=mask), fix=fix))
    elif mask is not None and not _broadcastable(mask.shape, expected):
        rule = f"`mask` must be broadcastable to {expected}, the shape of `x` without its channels."
        problems.append(Problem(rule, got=errors.describe(mask=mask)))
    elif mask is not None:
        real = np.broadcast_to(mask, expected)
    if training and not real.any():
        problems.append(
            Problem(
                "the moments need at least one valid position.",
                got=f"none of {real.size} positions is valid",
                fix="leave this batch out, or pass training=False.",
            )
        )
    errors.invalid_input(where, problems)
    if mask is None:
        return Padding()
    return Padding(
        real=np.expand_dims(real, view.channel_axis),
        on_view=real.reshape(view.shape[0], 1, 1, view.shape[3]),
    )


def junk(padding: Padding, x: Array) -> Bool[np.ndarray, "..."] | None:
    """Where padding cannot be computed with: NaN, infinite, or so large that it would become so.

    Such a position takes no part: it comes out as 0, and its gradient is 0. All other padding is normalized, as in
    Keras. What is real is never junk, so that a NaN among it is seen.
    """
    return None if padding.real is None else ~(padding.real | (np.abs(x) <= LARGEST))


def without_junk(padding: Padding, **arrays: Any) -> dict[str, Any]:
    """`x`, and `dy` if it is there, with 0 at the junk; a `dy` that is junk itself counts as 0 as well.

    Example:
        >>> real = np.array([[True], [False]])
        >>> without_junk(Padding(real), x=np.array([[1.0], [np.nan]]), dy=np.array([[2.0], [3.0]]))
        {'x': array([[1.],
               [0.]]), 'dy': array([[2.],
               [0.]])}
    """
    lost = junk(padding, arrays["x"])
    if lost is None:
        return arrays
    arrays["x"] = np.where(lost, 0.0, arrays["x"])
    if "dy" in arrays:
        arrays["dy"] = np.where(lost | junk(padding, arrays["dy"]), 0.0, arrays["dy"])
    return arrays


def _broadcastable(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
