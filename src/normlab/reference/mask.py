"""Masks: which values are real, and what becomes of padding that cannot be computed with."""

from collections.abc import Iterator
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
    on_view: Bool[np.ndarray, "n g c s"] | None = None  # the same, broadcastable to x on the view


UNPADDED = Padding()


def padding_of(where: str, view: View, mask: Mask | None, *, some: bool = False) -> Padding:
    """What a mask of positions says, once it is known to fit and, if need be, that at least one position counts.

    Args:
        where: The function that is asking, for the message.
        view: That of a norm whose channels are padded together: batch, instance or group norm.
        mask: True where a value is real; broadcastable to (N, *S).
        some: Whether there must be a real position, since all share the moments (batch norm in training).

    Raises:
        InvalidInputError: The mask is not boolean, does not fit, or leaves nothing to take moments of.
    """
    expected = (view.shape[0], *view.positions)
    real = np.ones(expected, dtype=bool)
    problems = list(_problems(mask, expected, "the shape of `x` without its channels"))
    if mask is not None and not problems:
        real = np.broadcast_to(mask, expected)
    if some and not real.any():
        problems.append(
            Problem(
                "the moments need at least one valid position.",
                got=f"none of {real.size} positions is valid",
                fix="leave this batch out, or pass training=False.",
            )
        )
    errors.invalid_input(where, problems)
    if mask is None:
        return UNPADDED
    return Padding(
        real=np.expand_dims(real, view.channel_axis),
        on_view=real.reshape(view.shape[0], 1, 1, view.shape[3]),
    )


def padding_of_elements(where: str, view: View, mask: Mask | None) -> Padding:
    """What a mask of elements says, once it is known to fit; a sample need not have a real value.

    Args:
        where: The function that is asking, for the message.
        view: That of a norm over the last dimensions: layer or RMS norm.
        mask: True where a value is real; broadcastable to the shape of `x`.

    Raises:
        InvalidInputError: The mask is not boolean or does not fit.
    """
    fix = "let its dimensions line up with the last ones of `x`; for whole samples, mask[..., None]."
    errors.invalid_input(where, _problems(mask, view.x_shape, "the shape of `x`", fix=fix))
    if mask is None:
        return UNPADDED
    real = np.broadcast_to(mask, view.x_shape)
    return Padding(real=real, on_view=real.reshape(view.shape))


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


def without_output(padding: Padding, x: Array, y: Array) -> Array:
    """`y` with 0 where `x` was junk."""
    lost = junk(padding, x)
    return y if lost is None else np.where(lost, 0.0, y)


def _problems(mask: Mask | None, expected: tuple[int, ...], meaning: str, *, fix: str = "") -> Iterator[Problem]:
    if mask is None:
        return
    got = errors.describe(mask=mask)
    if mask.dtype != np.bool_:
        yield Problem("`mask` must be boolean.", got=got, fix="pass mask.astype(bool), True where a value is real.")
    elif not _broadcastable(mask.shape, expected):
        yield Problem(f"`mask` must be broadcastable to {expected}, {meaning}.", got=got, fix=fix)


def _broadcastable(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False
