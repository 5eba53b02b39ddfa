"""Optimizers: a parameter and its gradient in, the parameter after one step out. Equations as in torch.optim."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "*shape"]
State = Mapping[str, Any]  # what an optimizer remembers of one parameter; empty before the first step
States = Mapping[str, State]  # the same by the name of the parameter


def sgd(parameter: Values, gradient: Values, state: State, *, lr: float) -> tuple[Values, State]:
    """parameter − lr · gradient.

    Args:
        parameter: Before the step.
        gradient: Of the loss.
        state: Nothing is remembered.
        lr: Learning rate.

    Returns:
        The parameter after the step, and the state for the next one; new arrays, here and in the others.

    Example:
        >>> sgd(np.array([1.0]), np.array([2.0]), {}, lr=0.25)
        (array([0.5]), {})
    """
    return parameter - lr * gradient, state


def momentum(
    parameter: Values, gradient: Values, state: State, *, lr: float, momentum: float = 0.9
) -> tuple[Values, State]:
    """velocity ← momentum · velocity + gradient; parameter − lr · velocity.

    Args:
        parameter: Before the step.
        gradient: Of the loss.
        state: The velocity.
        lr: Learning rate.
        momentum: Share of the velocity that is kept. Without dampening.

    Differs from CS231n:
        There lr is inside the velocity, which is not the same when lr decays.

    Example:
        >>> momentum(np.array([1.0]), np.array([2.0]), {"velocity": np.array([4.0])}, lr=0.25, momentum=0.5)
        (array([0.]), {'velocity': array([4.])})
    """
    velocity = momentum * state.get("velocity", np.zeros_like(parameter)) + gradient
    return parameter - lr * velocity, {"velocity": velocity}


def rmsprop(
    parameter: Values, gradient: Values, state: State, *, lr: float, alpha: float = 0.99, eps: float = 1e-8
) -> tuple[Values, State]:
    """square ← alpha · square + (1 − alpha) · gradient²; parameter − lr · gradient / (√square + eps).

    Args:
        parameter: Before the step.
        gradient: Of the loss.
        state: The mean square.
        lr: Learning rate.
        alpha: Share of the mean square that is kept.
        eps: Added to the root.

    Source:
        Tieleman & Hinton (2012), lecture 6.5.

    Example:
        >>> rmsprop(np.array([1.0]), np.array([2.0]), {}, lr=0.25, alpha=0.75, eps=1.0)
        (array([0.75]), {'square': array([1.])})
    """
    square = alpha * state.get("square", np.zeros_like(parameter)) + (1 - alpha) * gradient**2
    return parameter - lr * gradient / (np.sqrt(square) + eps), {"square": square}


def adam(
    parameter: Values,
    gradient: Values,
    state: State,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> tuple[Values, State]:
    """mean and square as moving averages, made unbiased; parameter − lr · mean / (√square + eps).

    Args:
        parameter: Before the step.
        gradient: Of the loss.
        state: Mean, mean square, and the number of steps.
        lr: Learning rate.
        beta1: Share of the mean that is kept.
        beta2: Share of the mean square that is kept.
        eps: Added to the root.

    Source:
        Kingma & Ba (2014), algorithm 1.

    Example:
        >>> adam(np.array([1.0]), np.array([2.0]), {}, lr=0.5, beta1=0.5, beta2=0.75, eps=2.0)
        (array([0.75]), {'mean': array([1.]), 'square': array([1.]), 'steps': 1})
    """
    zero = np.zeros_like(parameter)
    steps = state.get("steps", 0) + 1
    mean = beta1 * state.get("mean", zero) + (1 - beta1) * gradient
    square = beta2 * state.get("square", zero) + (1 - beta2) * gradient**2
    unbiased_mean, unbiased_square = mean / (1 - beta1**steps), square / (1 - beta2**steps)
    new = parameter - lr * unbiased_mean / (np.sqrt(unbiased_square) + eps)
    return new, {"mean": mean, "square": square, "steps": steps}


OPTIMIZERS: dict[str, Callable[..., tuple[Any, State]]] = {
    "sgd": sgd,
    "momentum": momentum,
    "rmsprop": rmsprop,
    "adam": adam,
}
