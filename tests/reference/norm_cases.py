"""The family as a catalogue: each norm as functions of (x, weight, bias), beside its twin in torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from normlab import reference
from normlab.reference import View

EPS = 1e-5
Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Norm:
    """One norm; `parameters` counts weight and bias, of which RMS norm has only the first."""

    name: str
    least_dims: int
    view: Callable[[tuple[int, ...]], View]
    parameter_shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    forward: Callable[..., np.ndarray]
    vjp: Callable[..., Arrays]
    steps: Callable[..., reference.Steps]
    torch: Callable[..., Any]
    parameters: int = 2


def _channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[1],)


def _samples(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:]


def _groups(channels: int) -> int:
    """The smallest number of groups above one: a group norm that is not a layer norm."""
    return next((g for g in range(2, channels + 1) if channels % g == 0), 1)


NORMS = (
    Norm(
        "batch_norm",
        2,
        lambda shape: reference.batch_view(shape, axis=1),
        _channels,
        lambda x, *p: reference.batch_norm(x, *p, eps=EPS),
        lambda dy, x, *p: reference.batch_norm_vjp(dy, x, *p, eps=EPS),
        lambda x, w, b, dy: reference.batch_norm_steps(x, w, b, dy, eps=EPS),
        lambda x, w, b: functional.batch_norm(x, None, None, w, b, training=True, eps=EPS),
    ),
    Norm(
        "layer_norm",
        2,
        lambda shape: reference.layer_view(shape, len(shape) - 1),
        _samples,
        lambda x, *p: reference.layer_norm(x, x.shape[1:], *p, eps=EPS),
        lambda dy, x, *p: reference.layer_norm_vjp(dy, x, x.shape[1:], *p, eps=EPS),
        lambda x, w, b, dy: reference.layer_norm_steps(x, x.shape[1:], w, b, dy, eps=EPS),
        lambda x, w, b: functional.layer_norm(x, x.shape[1:], w, b, eps=EPS),
    ),
    Norm(
        "group_norm",
        2,
        lambda shape: reference.group_view(shape, _groups(shape[1])),
        _channels,
        lambda x, *p: reference.group_norm(x, _groups(x.shape[1]), *p, eps=EPS),
        lambda dy, x, *p: reference.group_norm_vjp(dy, x, _groups(x.shape[1]), *p, eps=EPS),
        lambda x, w, b, dy: reference.group_norm_steps(x, _groups(x.shape[1]), w, b, dy, eps=EPS),
        lambda x, w, b: functional.group_norm(x, _groups(x.shape[1]), w, b, eps=EPS),
    ),
    Norm(
        "instance_norm",
        3,
        lambda shape: reference.instance_view(shape),
        _channels,
        lambda x, *p: reference.instance_norm(x, *p, eps=EPS),
        lambda dy, x, *p: reference.instance_norm_vjp(dy, x, *p, eps=EPS),
        lambda x, w, b, dy: reference.instance_norm_steps(x, w, b, dy, eps=EPS),
        lambda x, w, b: functional.instance_norm(x, weight=w, bias=b, eps=EPS),
    ),
    Norm(
        "rms_norm",
        2,
        lambda shape: reference.layer_view(shape, len(shape) - 1, center=False),
        _samples,
        lambda x, w=None, b=None: reference.rms_norm(x, x.shape[1:], w, eps=EPS),
        lambda dy, x, w=None, b=None: reference.rms_norm_vjp(dy, x, x.shape[1:], w, eps=EPS),
        lambda x, w, b, dy: reference.rms_norm_steps(x, x.shape[1:], w, dy, eps=EPS),
        lambda x, w, b: functional.rms_norm(x, x.shape[1:], w, eps=EPS),
        parameters=1,
    ),
    Norm(
        "channel_rms_norm",
        2,
        lambda shape: reference.group_view(shape, 1, center=False),
        _channels,
        lambda x, w=None, b=None: reference.channel_rms_norm(x, w, eps=EPS),
        lambda dy, x, w=None, b=None: reference.channel_rms_norm_vjp(dy, x, w, eps=EPS),
        lambda x, w, b, dy: reference.channel_rms_norm_steps(x, w, dy, eps=EPS),
        lambda x, w, b: functional.rms_norm(x, x.shape[1:], eps=EPS) * w.view(-1, *[1] * (x.ndim - 2)),
        parameters=1,
    ),
)

# Regime → what standard normal values become.
REGIMES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "unit": lambda z: z,
    "large mean": lambda z: 1e3 + z,
    "tiny variance": lambda z: 1 + 1e-6 * z,
    "constant": lambda z: np.full(z.shape, 0.1),
    "constant, large": lambda z: np.full(z.shape, 1e3 + 0.1),
    "huge": lambda z: 1e100 * z,
}


def drawn(norm: Norm, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, Arrays, np.ndarray]:
    """x, the parameters and dy, all random."""
    rng = np.random.default_rng(seed)
    of_parameters = norm.parameter_shape(shape)
    parameters = (rng.uniform(0.5, 1.5, of_parameters), rng.standard_normal(of_parameters))
    return rng.standard_normal(shape), parameters[: norm.parameters], rng.standard_normal(shape)


def torch_twin(norm: Norm, x: np.ndarray, parameters: Arrays, dy: np.ndarray) -> Arrays:
    """torch's y, dx and gradients of the parameters."""
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, *parameters)]
    y = norm.torch(*leaves, *(None,) * (2 - len(parameters)))
    y.backward(torch.tensor(dy))
    return tuple(t.detach().numpy() for t in (y, *(leaf.grad for leaf in leaves)))
