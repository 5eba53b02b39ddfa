"""Inverted dropout, the same for the same seed."""

import numpy as np
from jaxtyping import Bool, Float64, Real

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks


def dropout(
    x: Real[np.ndarray, "*shape"], *, p: float, seed: int, training: bool = True
) -> Float64[np.ndarray, "*shape"]:
    """y = keep · x / (1 − p), each value kept with probability 1 − p; in evaluation y = x.

    Shape:
        x: any. y: as x.

    Args:
        x: The values.
        p: Probability of dropping a value, in [0, 1]; 0 keeps all, 1 keeps none.
        seed: The same seed and shape drop the same values.
        training: False returns a copy of `x`.

    Returns:
        The values that were kept, scaled up so that the expected value is `x`, and zeros.

    Raises:
        InvalidInputError: `p` is outside [0, 1] or the seed is negative.

    Differs from torch:
        The seed is an argument, not a global state, and the random numbers are NumPy's.

    Source:
        Srivastava et al. (2014), section 10 (scaling in training instead of in evaluation).

    Example:
        >>> dropout(np.ones(6), p=0.5, seed=0)
        array([2., 0., 0., 0., 2., 2.])
    """
    x = _checked("dropout", p, seed, x=x)["x"]
    return np.where(_keep(x.shape, p, seed), x * _scale(p), 0.0) if training else x.copy()


def dropout_vjp(
    dy: checks.RealArray, x: Real[np.ndarray, "*shape"], *, p: float, seed: int, training: bool = True
) -> tuple[Float64[np.ndarray, "*shape"]]:
    """Gradient of `dropout`: dx = keep · dy / (1 − p), with the values dropped that the seed drops.

    Shape:
        dy, x: the same.

    Args:
        dy: Gradient with respect to the output.
        x: The values; only the shape matters.
        p: Probability of dropping a value.
        seed: That of the forward pass.
        training: False returns a copy of `dy`.

    Returns:
        (dx,)

    Raises:
        InvalidInputError: As `dropout`, or `dy` has not the shape of `x`.

    Example:
        >>> dropout_vjp(np.arange(6.0), np.ones(6), p=0.5, seed=0)
        (array([ 0.,  0.,  0.,  0.,  8., 10.]),)
    """
    a = _checked("dropout_vjp", p, seed, x=x, dy=dy)
    dx = np.where(_keep(a["x"].shape, p, seed), a["dy"] * _scale(p), 0.0) if training else a["dy"].copy()
    return (dx,)


def _keep(shape: tuple[int, ...], p: float, seed: int) -> Bool[np.ndarray, "..."]:
    return np.random.default_rng(seed).random(shape) >= p


def _scale(p: float) -> float:
    return 1 / (1 - p) if p < 1 else 0.0


def _checked(where: str, p: float, seed: int, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    a = checks.real(where, **arrays)
    problems = list(checks.upstream(a))
    if not 0 <= p <= 1:
        fix = "`p` is the probability of dropping a value; keep 0.25 is p=0.75."
        problems.append(Problem("`p` must lie in [0, 1].", got=f"p = {p}", fix=fix))
    if seed < 0:
        problems.append(Problem("`seed` must not be negative.", got=f"seed = {seed}"))
    errors.invalid_input(where, problems)
    return a
