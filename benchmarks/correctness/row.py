"""One line of the table."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Figure = float | str


@dataclass(frozen=True)
class Figures:
    """What the tool in use says, what ours says, and what is true; a text where something raises."""

    stock: Figure
    ours: Figure
    truth: Figure


@dataclass(frozen=True)
class Row:
    """A case. `hazard` is its number in the catalogue of hazards, 0 for a tool that is wrong without being a hazard.

    `tolerance` is how far ours may be from the truth, relative to it (absolute where it is 0).
    """

    name: str
    hazard: int
    case: str
    stock: str
    ours: str
    quantity: str
    measure: Callable[[], Figures]
    tolerance: float = 1e-6
    source: str = ""


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal values, the same wherever this seed is used."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def raised(call: Callable[[], object]) -> str:
    """The name of the error that a call ends with, or that it ends well."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "no error"


def near(one: Figure, other: Figure, tolerance: float) -> bool:
    """Whether two figures are the same.

    Example:
        >>> near(1.0, 1.0 + 1e-7, 1e-6), near("no error", "no error", 0.0), near(float("nan"), 1.0, 1e-6)
        (True, True, False)
    """
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one - other) <= tolerance * (abs(other) or 1.0)
