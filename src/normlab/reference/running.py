"""Running statistics of batch norm: an explicit commit that knows how many values it stands for."""

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks


def update_running(
    running_mean: checks.RealArray,
    running_var: checks.RealArray,
    mean: checks.RealArray,
    var: checks.RealArray,
    count: int,
    *,
    momentum: float = 0.1,
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """running ← (1 − momentum) · running + momentum · batch, with the unbiased variance of the batch.

    `var` is biased, as `batch_norm_statistics` returns it, and is made unbiased here by n / (n − 1). A single
    value says nothing about the spread: with count 1 the mean is updated and the variance stays as it was.

    Shape:
        All arrays: (C,).

    Args:
        running_mean: Before the update.
        running_var: Before the update; it never contains eps.
        mean: Of the batch.
        var: Of the batch, biased.
        count: Values behind each mean.
        momentum: Weight of the new batch, in [0, 1] (PyTorch's meaning; TensorFlow's is 1 minus this); 0 never moves
            them.

    Returns:
        running_mean and running_var, new arrays.

    Raises:
        InvalidInputError: Shapes differ, the count is below 1 or the momentum is outside [0, 1].

    Differs from torch:
        torch updates in place and refuses count 1; momentum None (a cumulative average) is not offered here.

    Source:
        Ioffe & Szegedy (2015), algorithm 2, step 10 (unbiased variance); the moving average as in torch.

    Example:
        >>> update_running(np.zeros(1), np.ones(1), np.array([2.0]), np.array([1.0]), count=2, momentum=0.5)
        (array([1.]), array([1.5]))
    """
    a = checks.real("update_running", running_mean=running_mean, running_var=running_var, mean=mean, var=var)
    problems: list[Problem] = []
    for name in ("running_var", "mean", "var"):
        problems += checks.shaped(a, name, a["running_mean"].shape, "that of `running_mean`")
    if count < 1:
        problems.append(Problem("`count` must be at least 1.", got=f"count = {count}"))
    errors.invalid_input("update_running", [*problems, *checks.momentum(momentum)])
    if momentum == 0:  # not even for a batch that is not finite, of which 0 · ∞ would be added
        return a["running_mean"].copy(), a["running_var"].copy()
    new_mean = (1 - momentum) * a["running_mean"] + momentum * a["mean"]
    if count == 1:
        return new_mean, a["running_var"].copy()
    unbiased = a["var"] * (count / (count - 1))
    return new_mean, (1 - momentum) * a["running_var"] + momentum * unbiased
