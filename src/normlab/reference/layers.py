"""Layers by name, as networks are built of them; what is absent is no layer at all."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.activations import (
    leaky_relu,
    leaky_relu_vjp,
    relu,
    relu_vjp,
    sigmoid,
    sigmoid_vjp,
    tanh,
    tanh_vjp,
)
from normlab.reference.batch_norm import batch_norm, batch_norm_vjp
from normlab.reference.channel_rms_norm import channel_rms_norm, channel_rms_norm_vjp
from normlab.reference.conv import conv, conv_vjp
from normlab.reference.dropout import dropout, dropout_vjp
from normlab.reference.global_pool import global_avg_pool, global_avg_pool_vjp
from normlab.reference.group_norm import group_norm, group_norm_vjp
from normlab.reference.instance_norm import instance_norm, instance_norm_vjp
from normlab.reference.layer import Layer, Shapes
from normlab.reference.linear import linear, linear_vjp
from normlab.reference.pool import max_pool, max_pool_vjp

Array = Float64[np.ndarray, "..."]
Op = Callable[..., Any]

NORMS = ("batch", "layer", "group", "instance", "rms")

ACTIVATIONS: Mapping[str, tuple[Op, Op]] = {
    "relu": (relu, relu_vjp),
    "tanh": (tanh, tanh_vjp),
    "sigmoid": (sigmoid, sigmoid_vjp),
    "leaky_relu": (leaky_relu, leaky_relu_vjp),
}


def linear_layer(name: str, inputs: int, outputs: int, *, bias: bool = True) -> Layer:
    """y = x · weightᵀ + bias; the weight is (outputs, inputs), as in torch."""
    return Layer(name, linear, linear_vjp, _shapes(outputs, (inputs,), bias))


def conv_layer(name: str, channels: int, filters: int, size: int, *, bias: bool = True) -> Layer:
    """A convolution over two dimensions whose output has the size of its input, if the kernel's size is odd."""
    shapes = _shapes(filters, (channels, size, size), bias)
    return Layer(name, conv, conv_vjp, shapes, {"padding": size // 2})


def norm_layers(
    name: str, norm: str | None, channels: int, *, groups: int = 2, eps: float = 1e-5, momentum: float = 0.1
) -> tuple[Layer, ...]:
    """The norm of that name with one weight and bias per channel, or no layer for None.

    Each fits (N, C) and (N, C, *S), but for instance norm, which needs positions. Layer norm is group norm of one
    group: over all of a sample. RMS norm is over all of a sample too, and has no bias.

    Args:
        name: Of the layer.
        norm: One of `NORMS`, or None.
        channels: C.
        groups: Of group norm.
        eps: Added to the variance.
        momentum: Weight of the new batch in the running statistics of batch norm, in [0, 1]; 0 never moves them.

    Raises:
        InvalidInputError: There is no such norm; `eps` or `momentum` is out of range.

    Example:
        >>> [layer.settings["num_groups"] for layer in norm_layers("norm", "layer", 6, groups=3)]
        [1]
    """
    errors.invalid_input("norm_layers", [*norm_problems(norm, NORMS), *checks.epsilon(eps), *checks.momentum(momentum)])
    shapes: Shapes = {"weight": (channels,), "bias": (channels,)}
    match norm:
        case None:
            return ()
        case "batch":
            return (Layer(name, batch_norm, batch_norm_vjp, shapes, {"eps": eps}, momentum),)
        case "instance":
            return (Layer(name, instance_norm, instance_norm_vjp, shapes, {"eps": eps}),)
        case "rms":
            return (Layer(name, channel_rms_norm, channel_rms_norm_vjp, {"weight": (channels,)}, {"eps": eps}),)
        case _:
            settings = {"num_groups": 1 if norm == "layer" else groups, "eps": eps}
            return (Layer(name, group_norm, group_norm_vjp, shapes, settings),)


def norm_problems(norm: str | None, known: tuple[str, ...]) -> list[Problem]:
    """A problem when there is no norm of that name."""
    if norm is None or norm in known:
        return []
    rule = f"`norm` must be one of {', '.join(known)}, or None."
    return [Problem(rule, got=f"norm = {norm!r}", fix=errors.did_you_mean(norm, known))]


def activation_layer(name: str, activation: str, *, slope: float = 0.2) -> Layer:
    """The activation of that name.

    Args:
        name: Of the layer.
        activation: One of `ACTIVATIONS`.
        slope: Of the negative side of `leaky_relu`; the others have none.

    Raises:
        InvalidInputError: There is no such activation.

    Example:
        >>> activation_layer("activation", "leaky_relu").settings
        {'slope': 0.2}
    """
    if activation not in ACTIVATIONS:
        rule = f"`activation` must be one of {', '.join(ACTIVATIONS)}."
        problem = Problem(rule, got=f"activation = {activation!r}", fix=errors.did_you_mean(activation, ACTIVATIONS))
        errors.invalid_input("activation_layer", [problem])
    op, vjp = ACTIVATIONS[activation]
    return Layer(name, op, vjp, settings={"slope": slope} if op is leaky_relu else {})


def dropout_layers(name: str, p: float) -> tuple[Layer, ...]:
    """Dropout, or no layer when nothing is dropped."""
    return (Layer(name, dropout, dropout_vjp, settings={"p": p}),) if p else ()


def max_pool_layer(name: str, size: int) -> Layer:
    """The largest value in each window; windows do not overlap."""
    return Layer(name, max_pool, max_pool_vjp, settings={"size": size})


def global_avg_pool_layer(name: str) -> Layer:
    """(N, C, *) becomes (N, C), the mean over all positions."""
    return Layer(name, global_avg_pool, global_avg_pool_vjp)


def flatten_layer(name: str) -> Layer:
    """(N, *) becomes (N, D)."""
    return Layer(name, _flatten, _flatten_vjp)


def _shapes(outputs: int, window: tuple[int, ...], bias: bool) -> Shapes:
    weight: Shapes = {"weight": (outputs, *window)}
    return {**weight, "bias": (outputs,)} if bias else weight


def _flatten(x: Array) -> Array:
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _flatten_vjp(dy: Array, x: Array) -> tuple[Array]:
    return (dy.reshape(x.shape),)
