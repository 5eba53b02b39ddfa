"""Moments of two parts put together as if they had been one: pooling by count, and the law of total variance."""

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks


def merge_moments(
    mean_a: checks.RealArray,
    var_a: checks.RealArray,
    count_a: int,
    mean_b: checks.RealArray,
    var_b: checks.RealArray,
    count_b: int,
) -> tuple[Float64[np.ndarray, "*sets"], Float64[np.ndarray, "*sets"], int]:
    """Mean, biased variance and count of two parts together, without looking at their values again.

    With δ = mean_b − mean_a and n = count_a + count_b: mean = mean_a + δ · count_b / n and
    var = (count_a · var_a + count_b · var_b) / n + δ² · count_a · count_b / n². A part without values says nothing,
    whatever its moments are.

    Shape:
        All arrays: the same, for instance (C,).

    Args:
        mean_a: Of one part.
        var_a: Of one part, biased.
        count_a: Values behind each mean of one part; may be 0.
        mean_b: Of the other part.
        var_b: Of the other part, biased.
        count_b: Values behind each mean of the other part; may be 0.

    Returns:
        mean, var (divided by the count) and count, new arrays; the moments of the second part if both are empty.

    Raises:
        InvalidInputError: Shapes differ, or a count is negative.

    Source:
        Chan, Golub & LeVeque (1979), equations 2.1.

    Example:
        >>> merge_moments(np.array([1.0]), np.array([0.0]), 3, np.array([5.0]), np.array([4.0]), 1)
        (array([2.]), array([4.]), 4)
    """
    a = checks.real("merge_moments", mean_a=mean_a, var_a=var_a, mean_b=mean_b, var_b=var_b)
    problems: list[Problem] = []
    for name in ("var_a", "mean_b", "var_b"):
        problems += checks.shaped(a, name, a["mean_a"].shape, "that of `mean_a`")
    for name, count in (("count_a", count_a), ("count_b", count_b)):
        if count < 0:
            problems.append(Problem(f"`{name}` must be at least 0.", got=f"{name} = {count}"))
    errors.invalid_input("merge_moments", problems)
    if count_a == 0:
        return a["mean_b"].copy(), a["var_b"].copy(), count_b
    if count_b == 0:
        return a["mean_a"].copy(), a["var_a"].copy(), count_a
    n = count_a + count_b
    share_a, share_b = count_a / n, count_b / n
    apart = a["mean_b"] - a["mean_a"]
    mean = a["mean_a"] + apart * share_b
    var = share_a * a["var_a"] + share_b * a["var_b"] + apart**2 * (share_a * share_b)
    return mean, var, n
