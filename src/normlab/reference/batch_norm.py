"""Batch norm: moments over (N, S) for each channel, or running statistics that are taken as constants."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.constant import norm_constant, norm_constant_vjp
from normlab.reference.mask import Mask, padding_of, without_junk
from normlab.reference.normalize import moments, norm, norm_vjp
from normlab.reference.steps import Steps, walk, walk_constant
from normlab.reference.view import View, batch_view, fold, fold_weight


def batch_norm(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    running_mean: checks.RealArray | None = None,
    running_var: checks.RealArray | None = None,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Mask | None = None,
) -> Float64[np.ndarray, "*shape"]:
    """y = weight · (x − mean) / √(var + eps) + bias, one mean and one biased variance per channel.

    In training the moments are those of `x`, and the running statistics are not looked at; `update_running`
    is a step of its own. In evaluation they are the running statistics. With a mask, all positions are
    normalized, with the moments of the real ones (as in Keras); padding that is NaN, infinite or beyond 1e100 comes
    out as 0.

    Shape:
        x: (N, C, *S), or C on another `axis`. weight, bias, running_mean, running_var: (C,).
        mask: broadcastable to (N, *S). y: as x.

    Args:
        x: The values.
        weight: Scale, or None for 1.
        bias: Shift, or None for 0.
        running_mean: Mean to be used in evaluation.
        running_var: Variance to be used in evaluation, without eps.
        training: Whether the moments are taken from `x`.
        eps: Added to the variance, once.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        The normalized values.

    Raises:
        InvalidInputError: A shape does not fit; no valid position in training; no running statistics in
            evaluation.

    Differs from torch:
        In training torch refuses one value per channel; here x_hat is then 0 and y is the bias. torch updates
        the running statistics in place, has no mask, and takes a negative running variance, which is refused
        here.

    Source:
        Ioffe & Szegedy (2015), algorithms 1 and 2.

    Example:
        >>> batch_norm(np.array([[1.0], [2.0], [3.0], [6.0]]), eps=0.5).ravel()
        array([-1. , -0.5,  0. ,  1.5])
    """
    view, a = checked_batch("batch_norm", axis, eps, x=x, weight=weight, bias=bias)
    padding = padding_of("batch_norm", view, mask, some=training)
    if training:
        return norm(view, **a, eps=eps, padding=padding)
    mean, var = running_on_view("batch_norm", view, running_mean, running_var)
    return norm_constant(view, **a, mean=mean, var=var, eps=eps, padding=padding)


def batch_norm_vjp(
    dy: checks.RealArray,
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None = None,
    bias: checks.RealArray | None = None,
    *,
    running_mean: checks.RealArray | None = None,
    running_var: checks.RealArray | None = None,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Mask | None = None,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, " c"] | None, Float64[np.ndarray, " c"] | None]:
    """Gradients of `batch_norm` in closed form.

    With g = dy · weight, dx = rstd · (g − m/n · (Σg + x_hat · Σ g·x_hat)) in training, m the mask and n its
    count, and dx = rstd · g in evaluation; dweight = Σ dy·x_hat; dbias = Σ dy. Padding where x or dy is NaN, infinite
    or beyond 1e100 takes no part.

    Shape:
        dy: as x. The others as in `batch_norm`.

    Args:
        dy: Gradient with respect to the output.
        x: As in `batch_norm`, and so are the others.
        weight: Scale, or None.
        bias: Shift, or None.
        running_mean: A constant: it has no gradient.
        running_var: A constant: it has no gradient.
        training: Whether the moments were taken from `x`.
        eps: Added to the variance.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        dx, dweight, dbias; None for a parameter that is None.

    Raises:
        InvalidInputError: As `batch_norm`, or `dy` has not the shape of `x`.

    Source:
        Ioffe & Szegedy (2015), section 3, multiplied out.

    Example:
        >>> dy, x = np.array([[1.0], [0.0]]), np.array([[0.0], [2.0]])
        >>> dx, dweight, _ = batch_norm_vjp(dy, x, np.ones(1), eps=3.0)
        >>> dx.ravel(), dweight
        (array([ 0.1875, -0.1875]), array([-0.5]))
    """
    view, a = checked_batch("batch_norm_vjp", axis, eps, x=x, weight=weight, bias=bias, dy=dy)
    padding = padding_of("batch_norm_vjp", view, mask, some=training)
    if training:
        return norm_vjp(view, **a, eps=eps, padding=padding)
    mean, var = running_on_view("batch_norm_vjp", view, running_mean, running_var)
    return norm_constant_vjp(view, **a, mean=mean, var=var, eps=eps, padding=padding)


def batch_norm_steps(
    x: Real[np.ndarray, "*shape"],
    weight: checks.RealArray | None,
    bias: checks.RealArray | None,
    dy: checks.RealArray,
    *,
    running_mean: checks.RealArray | None = None,
    running_var: checks.RealArray | None = None,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    mask: Mask | None = None,
) -> Steps:
    """Batch norm as a computational graph: mean, centered, squared, var, std, rstd, x_hat, scaled, y.

    In evaluation mean and var are constants, nothing is squared, and eight nodes are left.

    Args:
        x: As in `batch_norm`, and so are the others.
        weight: Scale, or None.
        bias: Shift, or None.
        dy: Gradient with respect to the output.
        running_mean: Mean to be used in evaluation.
        running_var: Variance to be used in evaluation.
        training: Whether the moments are taken from `x`.
        eps: Added to the variance.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        Each node with its value and its gradient, then dx, dweight and dbias.

    Raises:
        InvalidInputError: As `batch_norm_vjp`.

    Source:
        Ioffe & Szegedy (2015), section 3; the nodes are those of CS231n, assignment 2.

    Example:
        >>> x = np.array([[1.0], [2.0], [3.0], [6.0]])
        >>> steps = batch_norm_steps(x, None, None, x, eps=0.5).steps
        >>> [(step.name, float(step.value[0])) for step in steps[3:6]]
        [('var', 3.5), ('std', 2.0), ('rstd', 0.5)]
    """
    view, a = checked_batch("batch_norm_steps", axis, eps, x=x, weight=weight, bias=bias, dy=dy)
    padding = padding_of("batch_norm_steps", view, mask, some=training)
    if training:
        return walk(view, **a, eps=eps, padding=padding)
    mean, var = running_on_view("batch_norm_steps", view, running_mean, running_var)
    return walk_constant(view, **a, mean=mean, var=var, eps=eps, padding=padding)


def batch_norm_statistics(
    x: checks.RealArray, *, axis: int = 1, mask: Mask | None = None
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"], int]:
    """Mean, biased variance and count of the real values of each channel.

    Shape:
        x: (N, C, *S), or C on another `axis`. mask: broadcastable to (N, *S). mean, var: (C,).

    Args:
        x: The values.
        axis: Where the channels stand.
        mask: True where a value is real.

    Returns:
        mean, var (divided by the count) and the number of values that each channel has.

    Raises:
        InvalidInputError: `x` has fewer than two dimensions, or no valid position.

    Source:
        Ioffe & Szegedy (2015), algorithm 1; two passes (see `moments`).

    Example:
        >>> x = np.array([[1.0, 5.0], [3.0, 5.0], [99.0, 99.0]])
        >>> batch_norm_statistics(x, mask=np.array([True, True, False]))
        (array([2., 5.]), array([1., 0.]), 2)
    """
    view, a = checked_batch("batch_norm_statistics", axis, 0.0, x=x)
    padding = padding_of("batch_norm_statistics", view, mask, some=True)
    x = without_junk(padding, x=a["x"])["x"]
    found = moments(fold(view, x), view.axes, mask=padding.on_view)
    count = view.set_size if padding.on_view is None else int(padding.on_view.sum())
    return found.mean.reshape(-1), found.var.reshape(-1), count


def checked_batch(
    where: str, axis: int, eps: float, *, also: Iterable[Problem] = (), **arrays: Any
) -> tuple[View, dict[str, Any]]:
    """The view and the float64 arrays of a norm over the batch.

    Args:
        where: The function that is asking, for the message.
        axis: Where the channels stand.
        eps: Added to the variance.
        also: Problems of what only this norm has.
        **arrays: The arguments by name.

    Raises:
        InvalidInputError: Something does not fit.
    """
    arrays = checks.real(where, **arrays)
    x = arrays["x"]
    problems = [*checks.epsilon(eps), *also]
    if x.ndim < 2:
        problems.append(
            Problem(
                "`x` must have at least 2 dimensions, batch and channels.",
                got=errors.describe(x=x),
                fix="add a dimension, as in x[:, None].",
            )
        )
    elif not -x.ndim <= axis < x.ndim:
        problems.append(
            Problem(
                f"`axis` must lie in [{-x.ndim}, {x.ndim - 1}], the dimensions of `x`.",
                got=f"axis = {axis}; {errors.describe(x=x)}",
            )
        )
    else:
        problems += checks.parameters(arrays, (x.shape[axis],), "one entry per channel of `x`")
        problems += checks.upstream(arrays)
    errors.invalid_input(where, problems)
    return batch_view(x.shape, axis), arrays


def running_on_view(
    where: str,
    view: View,
    running_mean: checks.RealArray | None,
    running_var: checks.RealArray | None,
    *,
    always: bool = False,
) -> tuple[Any, Any]:
    """The running statistics on the view.

    Args:
        where: The function that is asking, for the message.
        view: That of batch norm.
        running_mean: One entry per channel.
        running_var: The same, without eps.
        always: Whether they are needed in training too.

    Raises:
        InvalidInputError: One is missing, has another shape or is a negative variance.
    """
    running = checks.real(where, running_mean=running_mean, running_var=running_var)
    problems = []
    for name, value in running.items():
        if value is None:
            when, fix = ("", "pass it.") if always else (" in evaluation", "pass it, or training=True.")
            problems.append(Problem(f"`{name}` must be given{when}.", got=f"{name} = None", fix=fix))
        problems += checks.shaped(running, name, view.set_shape, "one entry per channel of `x`")
    mean, var = running.values()
    if var is not None and np.any(var < 0):
        problems.append(Problem("`running_var` must not be negative.", got=f"smallest {var.min()}"))
    errors.invalid_input(where, problems)
    return fold_weight(view, mean), fold_weight(view, var)
