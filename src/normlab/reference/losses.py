"""Losses, each the mean over the batch, with the gradient scaled by a number `dy` from above."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Real

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks

# Integers are asked for by our own message.
Labels = checks.RealArray


def softmax_cross_entropy(logits: checks.RealArray, labels: Labels) -> float:
    """Mean over n of log Σₖ exp(logits[n, k]) − logits[n, labels[n]].

    The largest logit of each row is subtracted first, so that nothing overflows.

    Shape:
        logits: (N, K), one column per class. labels: (N,).

    Args:
        logits: Unnormalized log probabilities, in nats.
        labels: The right class, in [0, K).

    Returns:
        The loss in nats.

    Raises:
        InvalidInputError: A shape does not fit, the batch is empty or a label is out of range.

    Differs from torch:
        No class dimension but the last, no weights, no ignored label; an empty batch is an error, not NaN.

    Example:
        >>> softmax_cross_entropy(np.array([[1000.0, 0.0]]), np.array([1]))
        1000.0
    """
    logits, rows = _classified("softmax_cross_entropy", "logits", logits, labels)
    log_p = _log_softmax(logits)
    return float(-np.mean(log_p[rows, labels]))


def softmax_cross_entropy_vjp(dy: float, logits: checks.RealArray, labels: Labels) -> tuple[Float64[np.ndarray, "n k"]]:
    """dlogits = dy · (softmax(logits) − one_hot(labels)) / N.

    Args:
        dy: Gradient with respect to the loss.
        logits: As in `softmax_cross_entropy`.
        labels: The right class.

    Returns:
        (dlogits,)

    Raises:
        InvalidInputError: As `softmax_cross_entropy`.

    Example:
        >>> softmax_cross_entropy_vjp(2.0, np.zeros((1, 2)), np.array([1]))
        (array([[ 1., -1.]]),)
    """
    logits, rows = _classified("softmax_cross_entropy_vjp", "logits", logits, labels)
    dlogits = np.exp(_log_softmax(logits))
    dlogits[rows, labels] -= 1
    return (dlogits * (dy / len(logits)),)


def hinge(scores: checks.RealArray, labels: Labels, *, margin: float = 1.0) -> float:
    """Multiclass SVM: by how much the wrong classes reach into the margin of the right one.

    Mean over n of Σ over k ≠ labels[n] of max(0, scores[n, k] − scores[n, labels[n]] + margin).

    Shape:
        scores: (N, K), one column per class. labels: (N,).

    Args:
        scores: One score per class.
        labels: The right class, in [0, K).
        margin: By which the right score must lead, in units of the scores.

    Returns:
        The loss, in units of the scores.

    Raises:
        InvalidInputError: A shape does not fit, the batch is empty or a label is out of range.

    Differs from torch:
        `multi_margin_loss` divides by K as well; this is the sum over classes, as in CS231n.

    Source:
        Weston & Watkins (1999); Crammer & Singer's takes only the largest term.

    Example:
        >>> hinge(np.array([[3.0, 2.5, 0.0]]), np.array([0]))
        0.5
    """
    scores, rows = _classified("hinge", "scores", scores, labels)
    return float(np.sum(np.maximum(_lead(scores, rows, labels, margin), 0)) / len(scores))


def hinge_vjp(
    dy: float, scores: checks.RealArray, labels: Labels, *, margin: float = 1.0
) -> tuple[Float64[np.ndarray, "n k"]]:
    """Each class inside the margin gets dy / N, and the right class loses as much for each of them.

    Args:
        dy: Gradient with respect to the loss.
        scores: As in `hinge`.
        labels: The right class.
        margin: By which the right score must lead.

    Returns:
        (dscores,)

    Raises:
        InvalidInputError: As `hinge`.

    Example:
        >>> hinge_vjp(2.0, np.array([[3.0, 2.5, 0.0]]), np.array([0]))
        (array([[-2.,  2.,  0.]]),)
    """
    scores, rows = _classified("hinge_vjp", "scores", scores, labels)
    dscores = np.where(_lead(scores, rows, labels, margin) > 0, dy / len(scores), 0.0)
    dscores[rows, labels] = -dscores.sum(axis=1)
    return (dscores,)


def mean_squared_error(x: checks.RealArray, target: checks.RealArray) -> float:
    """Mean over all elements of (x − target)².

    Args:
        x: Predictions.
        target: What they should have been, of the same shape; nothing is broadcast.

    Returns:
        The loss, in squared units of `x`.

    Raises:
        InvalidInputError: The shapes differ, or there is nothing to take the mean of.

    Differs from torch:
        torch broadcasts with a warning, and returns NaN for empty arrays.

    Example:
        >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        2.0
    """
    a = _compared("mean_squared_error", x=x, target=target)
    return float(np.mean((a["x"] - a["target"]) ** 2))


def mean_squared_error_vjp(
    dy: float, x: Real[np.ndarray, "*shape"], target: checks.RealArray
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"]]:
    """dx = dy · 2 · (x − target) / (number of elements), dtarget = −dx.

    Args:
        dy: Gradient with respect to the loss.
        x: Predictions.
        target: What they should have been.

    Returns:
        dx, dtarget

    Raises:
        InvalidInputError: As `mean_squared_error`.

    Example:
        >>> mean_squared_error_vjp(1.0, np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        (array([ 0., -2.]), array([-0.,  2.]))
    """
    a = _compared("mean_squared_error_vjp", x=x, target=target)
    dx = (2 * dy / a["x"].size) * (a["x"] - a["target"])
    return np.asarray(dx), np.asarray(-dx)


# What a network trains on: each loss of scores and targets, with its vjp, whose first gradient is that of the scores.
LOSSES: Mapping[str, tuple[Callable[..., float], Callable[..., tuple[Any, ...]]]] = {
    "cross_entropy": (softmax_cross_entropy, softmax_cross_entropy_vjp),
    "mean_squared_error": (mean_squared_error, mean_squared_error_vjp),
}


def _log_softmax(logits: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    shifted: Float64[np.ndarray, "n k"] = logits - logits.max(axis=1, keepdims=True)
    log_p: Float64[np.ndarray, "n k"] = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return log_p


def _lead(
    scores: Float64[np.ndarray, "n k"], rows: Int[np.ndarray, " n"], labels: Labels, margin: float
) -> Float64[np.ndarray, "n k"]:
    """How far each wrong class reaches into the margin; 0 for the right one."""
    lead: Float64[np.ndarray, "n k"] = scores - scores[rows, labels][:, None] + margin
    lead[rows, labels] = 0
    return lead


def _classified(where: str, name: str, scores: Any, labels: Any) -> tuple[Any, Any]:
    """The scores as float64 and the numbers of their rows, once the labels are known to fit."""
    scores = checks.real(where, **{name: scores})[name]
    problems = []
    if scores.ndim != 2 or 0 in scores.shape:
        rule = f"`{name}` must have shape (N, K), at least one row and one class."
        problems.append(Problem(rule, got=errors.describe(**{name: scores})))
    if labels.dtype.kind not in "iu" or labels.shape != scores.shape[:1]:
        rule = f"`labels` must be one integer per row of `{name}`."
        problems.append(Problem(rule, got=errors.describe(**{"labels": labels, name: scores})))
    elif not problems and (labels.min() < 0 or labels.max() >= scores.shape[1]):
        rule = f"`labels` must lie in [0, {scores.shape[1]}), the classes of `{name}`."
        problems.append(Problem(rule, got=f"labels from {labels.min()} to {labels.max()}"))
    errors.invalid_input(where, problems)
    return scores, np.arange(len(scores))


def _compared(where: str, **arrays: Any) -> dict[str, Any]:
    a = checks.real(where, **arrays)
    problems = list(checks.shaped(a, "target", a["x"].shape, "that of `x`"))
    if a["x"].size == 0:
        problems.append(Problem("`x` must have at least one element.", got=errors.describe(x=a["x"])))
    errors.invalid_input(where, problems)
    return a
