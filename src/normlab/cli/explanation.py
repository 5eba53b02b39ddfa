"""What an explanation consists of: computed in `explain.py`, drawn in `explain_view.py`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from normlab import reference

# How the running statistics of `--mode eval` are made.
RUNNING_BATCHES = 5
MOMENTUM = 0.1

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gradient:
    """One gradient, found in three ways."""

    closed: Array
    steps: Array
    numeric: Array


@dataclass(frozen=True)
class Agreement:
    """The largest relative errors between the three ways, and the element where closed and numeric differ most."""

    closed_vs_steps: float
    closed_vs_numeric: float
    steps_vs_numeric: float
    where: str


@dataclass(frozen=True)
class Explanation:
    """Everything there is to show: inputs, the walk, the gradients and the moments."""

    op: str
    shape: tuple[int, ...]
    mode: str
    groups: int | None
    seed: int
    eps: float
    x: Array
    dy: Array
    weight: Array
    bias: Array | None  # RMS norm has none
    y: Array
    walk: reference.Steps
    gradients: dict[str, Gradient]  # dx, dweight and, but for RMS norm, dbias
    agreement: dict[str, Agreement]  # for each of the gradients
    moments: dict[str, dict[str, Array]]  # before and after: mean and std of each set


def node(walk: reference.Steps, name: str) -> Array:
    """The value of one node of a walk.

    Args:
        walk: The nodes.
        name: Of the node that is wanted.
    """
    return next(step.value for step in walk.steps if step.name == name)


def overall(explained: Explanation) -> Agreement:
    """The worst of all gradients.

    Args:
        explained: What was explained.
    """
    found = list(explained.agreement.values())
    return Agreement(
        closed_vs_steps=max(a.closed_vs_steps for a in found),
        closed_vs_numeric=max(a.closed_vs_numeric for a in found),
        steps_vs_numeric=max(a.steps_vs_numeric for a in found),
        where=max(found, key=lambda a: a.closed_vs_numeric).where,
    )
