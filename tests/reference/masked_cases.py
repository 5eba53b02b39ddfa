"""The norms that take a mask and have sets of their own for each sample, beside a composite of torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from normlab import reference

EPS = 1e-5
SHAPE = (4, 6, 2, 2)
Arrays = tuple[np.ndarray, ...]
RNG = np.random.default_rng(0)

# Of positions: one sample with three real ones, one with two, one with one, one with none.
POSITIONS = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool).reshape(4, 2, 2)
# Of elements: any of them, all, one, none.
ELEMENTS = np.stack([RNG.random(SHAPE[1:]) < 0.5, np.ones(SHAPE[1:], bool), np.zeros((2, *SHAPE[1:]), bool)[0]] * 2)[:4]
ELEMENTS[3] = np.arange(24).reshape(SHAPE[1:]) == 7


@dataclass(frozen=True)
class MaskedNorm:
    """A norm as functions of (x, weight, bias), `mask` a keyword; RMS norm has no bias."""

    name: str
    mask: np.ndarray
    sets: tuple[int, ...]  # x reshaped so that each set lies along the last axis
    parameter_shape: tuple[int, ...]
    forward: Callable[..., np.ndarray]
    vjp: Callable[..., Arrays]
    steps: Callable[..., reference.Steps]
    center: bool = True

    @property
    def real(self) -> np.ndarray:
        """The mask in the shape of x."""
        return self.on_x(self.mask)

    def on_x(self, mask: np.ndarray) -> np.ndarray:
        return np.broadcast_to(mask if mask.ndim == len(SHAPE) else mask[:, None], SHAPE)

    def per_element(self, parameter: Any) -> Any:
        """A weight or bias in a shape that can be broadcast against x."""
        return parameter.reshape(*parameter.shape, *[1] * (len(SHAPE) - 1 - parameter.ndim))

    def sum_to_parameter(self, elements: np.ndarray) -> np.ndarray:
        summed = elements.sum(axis=0)
        return summed.sum(axis=tuple(range(len(self.parameter_shape), summed.ndim)))


NORMS = (
    MaskedNorm(
        "layer_norm",
        ELEMENTS,
        (4, 24),
        SHAPE[1:],
        lambda x, *p, **how: reference.layer_norm(x, x.shape[1:], *p, **how),
        lambda dy, x, *p, **how: reference.layer_norm_vjp(dy, x, x.shape[1:], *p, **how),
        lambda x, w, b, dy, **how: reference.layer_norm_steps(x, x.shape[1:], w, b, dy, **how),
    ),
    MaskedNorm(
        "group_norm",
        POSITIONS,
        (4, 2, 12),
        SHAPE[1:2],
        lambda x, *p, **how: reference.group_norm(x, 2, *p, **how),
        lambda dy, x, *p, **how: reference.group_norm_vjp(dy, x, 2, *p, **how),
        lambda x, w, b, dy, **how: reference.group_norm_steps(x, 2, w, b, dy, **how),
    ),
    MaskedNorm(
        "instance_norm",
        POSITIONS,
        (4, 6, 4),
        SHAPE[1:2],
        reference.instance_norm,
        reference.instance_norm_vjp,
        reference.instance_norm_steps,
    ),
    MaskedNorm(
        "rms_norm",
        ELEMENTS,
        (4, 24),
        SHAPE[1:],
        lambda x, w=None, **how: reference.rms_norm(x, x.shape[1:], w, **{"eps": EPS, **how}),
        lambda dy, x, w=None, **how: reference.rms_norm_vjp(dy, x, x.shape[1:], w, **{"eps": EPS, **how}),
        lambda x, w, b, dy, **how: reference.rms_norm_steps(x, x.shape[1:], w, dy, **{"eps": EPS, **how}),
        center=False,
    ),
    MaskedNorm(
        "channel_rms_norm",
        POSITIONS,
        (4, 24),
        SHAPE[1:2],
        reference.channel_rms_norm,
        reference.channel_rms_norm_vjp,
        lambda x, w, b, dy, **how: reference.channel_rms_norm_steps(x, w, dy, **how),
        center=False,
    ),
)


def drawn(norm: MaskedNorm, seed: int = 0) -> tuple[np.ndarray, Arrays, np.ndarray]:
    """x, the parameters that the norm has, and dy."""
    rng = np.random.default_rng((seed, 2))
    parameters = rng.uniform(0.5, 1.5, norm.parameter_shape), rng.standard_normal(norm.parameter_shape)
    return rng.standard_normal(SHAPE), parameters[: 1 + norm.center], rng.standard_normal(SHAPE)


def composite(norm: MaskedNorm, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
    """The definition in torch, to be differentiated by it: sums over what is real, x_hat 0 where nothing is."""
    values, real = x.reshape(norm.sets), torch.tensor(norm.real.copy()).reshape(norm.sets)
    n = real.sum(dim=-1, keepdim=True)
    mean = (values * real).sum(dim=-1, keepdim=True) / n.clamp(min=1) if norm.center else 0.0
    var = ((values - mean) ** 2 * real).sum(dim=-1, keepdim=True) / n.clamp(min=1)
    x_hat = torch.where(n > 0, (values - mean) / (var + EPS).sqrt(), 0.0).reshape(x.shape)
    y = x_hat * norm.per_element(weight)
    return y if bias is None else y + norm.per_element(bias)


def of_real_values_alone(
    norm: MaskedNorm, x: np.ndarray, parameters: Arrays, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Arrays]:
    """y, dx and the gradients of the parameters, set by set, from an array that holds its real values and no others.

    Nothing is said about padding: y and dx are 0 there.
    """
    y, dx, dw, db = (np.zeros(norm.sets) for _ in range(4))
    on_x = [np.broadcast_to(norm.per_element(p), SHAPE).reshape(norm.sets) for p in parameters]
    for at in np.ndindex(norm.sets[:-1]):
        real = norm.real.reshape(norm.sets)[at]
        if not real.any():
            continue
        values, upstream = (a.reshape(norm.sets)[at][real] for a in (x, dy))
        given = [p[at][real] for p in on_x]
        if norm.center:
            y[at][real] = reference.layer_norm(values, values.shape, *given, eps=EPS)
            found = reference.layer_norm_vjp(upstream, values, values.shape, *given, eps=EPS)
            dx[at][real], dw[at][real], db[at][real] = found
        else:
            y[at][real] = reference.rms_norm(values, values.shape, *given, eps=EPS)
            dx[at][real], dw[at][real] = reference.rms_norm_vjp(upstream, values, values.shape, *given, eps=EPS)
    of_parameters = tuple(norm.sum_to_parameter(d.reshape(SHAPE)) for d in (dw, db)[: len(parameters)])
    return y.reshape(SHAPE), dx.reshape(SHAPE), of_parameters
