"""Every tolerance of the tests, and why it is as large as it is. No tolerance is typed into a test."""

from dataclasses import dataclass

import numpy as np

EPS = float(np.finfo(np.float64).eps)

# The promise: float64 against PyTorch in float64, on values of unit size.
TORCH = 1e-12

# The promise: a vjp against central differences over four points (`check_gradient`; what relative means is said in
# `relative_error`). Differences reach about 1e-10, so that 1e-7 is passed with room, and only by a right gradient.
GRADIENT = 1e-7

# The closed form against the step graph: the same sums in another order, relative to the largest value.
STEPS = 1e-12

# Roundings that add up in one result, with the sums of up to a few hundred values (both sides sum pairwise or in
# blocks). Measured over all shapes and regimes: at most 7.
ROUNDINGS = 16

# A mean, deviation or sum that is 0 or 1 by construction, in ulp of the numbers that it is made of.
INVARIANT = ROUNDINGS * EPS


@dataclass(frozen=True)
class NormBound:
    """Bounds on the absolute difference of two right float64 implementations of one norm on the same input."""

    y: float
    dx: float
    dweight: float
    dbias: float


def norm_bound(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dy: np.ndarray, *, eps: float, center: bool
) -> NormBound:
    """Derived from the numbers themselves; `x` and `dy` have one column per set.

    The mean is off by some ulp of |x|, and that error is not divided by the numbers' size but by their deviation:
    x_hat is off by u · (condition + |x_hat|), with condition = largest |x| · rstd and u = ROUNDINGS · EPS. The error
    of the mean does not reach the variance in first order, since Σ centered = 0. Then

        y        weight · that, and u of the result
        dx       rstd · |g| · u, and the error of x_hat times |x_hat| twice, for both factors of x_hat · mean(g · x_hat)
        dweight  a sum over rows of dy · x_hat, whose errors add up like a random walk: √rows
    """
    u = ROUNDINGS * EPS
    mean = x.mean(axis=0) if center else np.zeros(x.shape[1])
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axis=0) + eps)
    condition = np.max(np.abs(x) * rstd, initial=0.0) if center else 0.0
    x_hat = max(1.0, np.max(np.abs(x - mean) * rstd, initial=0.0))
    off = u * (condition + x_hat)
    scale, shift = np.max(np.abs(weight), initial=0.0), np.max(np.abs(bias), initial=0.0)
    upstream = np.max(np.abs(dy), initial=0.0)
    rows = np.sqrt(max(x.size / max(weight.size, 1), 1.0))
    return NormBound(
        y=float(scale * off + u * shift),
        dx=float(np.max(rstd, initial=0.0) * scale * upstream * (u + 2 * off * x_hat)),
        dweight=float(rows * upstream * off),
        dbias=float(rows * upstream * u),
    )


# The promise: losses (relative), weights and running statistics (absolute and relative) of a whole training run against
# PyTorch in float64. Both round differently in every operation, by a few 1e-16, and training carries each difference
# on. Measured after 200 steps: losses 5e-15, weights and running statistics 1e-11.
TRAINING = 1e-9

# Statistics gathered in float64 and merged batch by batch, against the whole set at once, relative: measured over 900
# random splits with means up to 1e3 at unit deviation, 2e-13 of the variance; networks carry it on.
POPULATION = 1e-10

# The promise for float32 layers: the float64 result rounded once, 2⁻²⁴, and what the issue asks for.
POPULATION_32 = 1e-6


# Of our layers: the error against float64 is at most PyTorch's own in the same dtype. "At most" is taken over the whole
# tensor, as two right roundings of one number may differ, and twice that is allowed for the same reason, on a floor of
# some roundings of the largest value.
TIMES_TORCH = 2.0
FLOOR_ROUNDINGS = 8


def beside_torch(ours: object, torchs: object, truth: object, name: str, *, condition: float = 1.0) -> None:
    """Raises where one of our elements is further from the truth than twice the worst of PyTorch's, and the floor.

    Of float64 the truth is PyTorch's own result, off by its own roundings of numbers that are `condition` times as
    large as their deviation.
    """
    import torch

    assert isinstance(ours, torch.Tensor)
    assert isinstance(torchs, torch.Tensor)
    assert isinstance(truth, torch.Tensor)
    assert ours.shape == torchs.shape
    if not truth.numel():
        return
    exact = truth.double()
    allowed = (torchs.double() - exact).abs().amax()
    rounding = torch.finfo(ours.dtype).eps if ours.is_floating_point() else 0.0
    floor = FLOOR_ROUNDINGS * rounding * exact.abs().amax() * (condition if ours.dtype == torch.float64 else 1.0)
    error, bound = (ours.double() - exact).abs().amax(), TIMES_TORCH * allowed + floor
    assert error <= bound, f"{name}: off by {error:.3g}, allowed {bound:.3g} (PyTorch is off by {allowed:.3g})"


# The promise: outputs of a model before and after its norms are folded, relative to the largest value, in float32.
FOLD = 1e-4

# One layer folded in float32, relative to the largest value: a few roundings (eps is 1.2e-7) of sums of 36 products,
# and of the mean of 100 that the norm takes away again. Measured: 5e-7, and 2e-6 with that mean.
FOLD_FLOAT32 = 1e-5

# The promise of `recalibrate_`: as the statistics of the whole set, in float32.
RECALIBRATED = 1e-6


def pooled_bound(mean: float, apart: float, var: float) -> float:
    """Bound on the running variance of pooled micro-batches in float32.

    Each mean is rounded by half a step at its size, so that the distance between two of them, `apart`, is off by one
    step, and its square by 2 · apart times that; the rest are roundings of the variance itself.
    """
    step = float(np.finfo(np.float32).eps)
    return step * (2 * apart * abs(mean) + ROUNDINGS * var)
