"""Running statistics of batch norm: an explicit commit that knows how many values it stands for."""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.merge_moments import merge_moments

RULES = ("ema", "debiased", "cumulative", "population")


def update_running(
    running_mean: checks.RealArray,
    running_var: checks.RealArray,
    mean: checks.RealArray,
    var: checks.RealArray,
    count: int,
    *,
    momentum: float = 0.1,
    rule: str = "ema",
    steps: int | None = None,
    values: int | None = None,
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """running ← (1 − w) · running + w · batch, with the unbiased variance of the batch, or all values so far pooled.

    The rule decides the weight w of the batch, with t = `steps`:

        ema          w = momentum
        debiased     w = momentum / (1 − (1 − momentum)ᵗ): an average over the batches alone, the start weighing nothing
        cumulative   w = 1 / t: every batch weighs the same
        population   no weight: the moments of all values seen, batches pooled by count (`merge_moments`)

    `var` is biased, as `batch_norm_statistics` returns it, and is made unbiased here by n / (n − 1). A single
    value says nothing about the spread: with count 1 the mean is updated and the variance stays as it was (after a
    first batch of one value it still holds its start); pooled, only while there is one value in all. A batch whose
    mean or unbiased variance is not finite is skipped as a whole: NaN would stay for ever.

    Shape:
        All arrays: (C,).

    Args:
        running_mean: Before the update.
        running_var: Before the update; it never contains eps.
        mean: Of the batch.
        var: Of the batch, biased.
        count: Values behind each mean.
        momentum: Weight of the new batch, in [0, 1] (PyTorch's meaning; TensorFlow's is 1 minus this); 0 never moves
            them. Of no influence on `cumulative` and `population`.
        rule: One of `ema`, `debiased`, `cumulative` and `population`.
        steps: Commits up to this one, which counts; those that were skipped do not. For `debiased` and `cumulative`.
        values: Behind the running statistics before the update, 0 at the start. For `population`.

    Returns:
        running_mean and running_var, new arrays.

    Raises:
        InvalidInputError: Shapes differ, the count is below 1, the momentum is outside [0, 1], there is no such rule,
            or it lacks `steps` or `values`.

    Differs from torch:
        torch updates in place, refuses count 1 and commits what is not finite. Its momentum None is `cumulative`;
        it has neither `debiased` nor `population`.

    Source:
        Ioffe & Szegedy (2015), algorithm 2, step 10 (unbiased variance); the moving average as in torch. Kingma & Ba
        (2014), section 3, for `debiased`; Chan, Golub & LeVeque (1979) for `population`.

    Example:
        >>> start, batch = (np.zeros(1), np.ones(1)), (np.array([2.0]), np.array([1.0]), 2)
        >>> update_running(*start, *batch, momentum=0.5)
        (array([1.]), array([1.5]))
        >>> update_running(*start, *batch, momentum=0.5, rule="debiased", steps=1)
        (array([2.]), array([2.]))
    """
    a = checks.real("update_running", running_mean=running_mean, running_var=running_var, mean=mean, var=var)
    problems: list[Problem] = []
    for name in ("running_var", "mean", "var"):
        problems += checks.shaped(a, name, a["running_mean"].shape, "that of `running_mean`")
    if count < 1:
        problems.append(Problem("`count` must be at least 1.", got=f"count = {count}"))
    problems += [*checks.momentum(momentum), *_rule_problems(rule, steps, values)]
    errors.invalid_input("update_running", problems)
    old_mean, old_var, new_mean = a["running_mean"].copy(), a["running_var"].copy(), a["mean"]
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is skipped
        new_var = a["var"] * (count / max(count - 1, 1))
    if not (np.isfinite(new_mean).all() and np.isfinite(new_var).all()):
        return old_mean, old_var
    if rule == "population":
        return _pooled(old_mean, old_var, values or 0, new_mean, a["var"], count)
    weight = _weight(rule, momentum, steps)
    moved = (1 - weight) * old_mean + weight * new_mean
    return moved, old_var if count == 1 else (1 - weight) * old_var + weight * new_var


def _weight(rule: str, momentum: float, steps: int | None) -> float:
    """Of the batch, exactly 1 for a first one that is debiased."""
    steps = steps or 1
    match rule:
        case "debiased" if steps > 1 and 0 < momentum < 1:
            return momentum / -math.expm1(steps * math.log1p(-momentum))
        case "debiased":
            return float(momentum > 0)
        case "cumulative":
            return 1 / steps
        case _:
            return momentum


def _pooled(
    old_mean: Float64[np.ndarray, " c"],
    old_var: Float64[np.ndarray, " c"],
    values: int,
    mean: Float64[np.ndarray, " c"],
    var: Float64[np.ndarray, " c"],
    count: int,
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    biased = old_var * ((values - 1) / values) if values else old_var
    mean, var, n = merge_moments(old_mean, biased, values, mean, var, count)
    return mean, old_var if n == 1 else var * (n / (n - 1))


def _rule_problems(rule: str, steps: int | None, values: int | None) -> Iterator[Problem]:
    if rule not in RULES:
        fix = errors.did_you_mean(rule, RULES)
        yield Problem(f"`rule` must be one of {', '.join(RULES)}.", got=f"rule = {rule!r}", fix=fix)
    if rule in ("debiased", "cumulative") and (steps is None or steps < 1):
        fix = "pass the number of commits before this one, plus 1."
        yield Problem(f"`steps` must be at least 1 for the rule {rule}.", got=f"steps = {steps}", fix=fix)
    if rule == "population" and (values is None or values < 0):
        fix = "pass the number of values behind the running statistics, 0 at the start."
        yield Problem("`values` must be at least 0 for the rule population.", got=f"values = {values}", fix=fix)
