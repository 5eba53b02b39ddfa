"""Activations, each with its gradient. All work element by element, on any shape."""

import numpy as np
from jaxtyping import Float64, Real

from normlab import errors
from normlab.reference import checks


def relu(x: Real[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """y = max(x, 0).

    Args:
        x: The values.

    Source:
        Nair & Hinton (2010).

    Example:
        >>> relu(np.array([-1.0, 0.0, 2.0]))
        array([0., 0., 2.])
    """
    y: Float64[np.ndarray, "*shape"] = np.asarray(np.maximum(checks.real("relu", x=x)["x"], 0.0))
    return y


def relu_vjp(dy: checks.RealArray, x: Real[np.ndarray, "*shape"]) -> tuple[Float64[np.ndarray, "*shape"]]:
    """dx = dy where x > 0, and 0 elsewhere, at 0 too (as in torch).

    Args:
        dy: Gradient with respect to the output.
        x: The values.

    Example:
        >>> relu_vjp(np.array([3.0, 3.0, 3.0]), np.array([-1.0, 0.0, 2.0]))
        (array([0., 0., 3.]),)
    """
    dy, x = _pair("relu_vjp", dy, x)
    return (np.where(x > 0, dy, 0.0),)


def leaky_relu(x: Real[np.ndarray, "*shape"], *, slope: float = 0.01) -> Float64[np.ndarray, "*shape"]:
    """y = x where x > 0, and slope · x elsewhere.

    Args:
        x: The values.
        slope: Of the negative side.

    Source:
        Maas, Hannun & Ng (2013).

    Example:
        >>> leaky_relu(np.array([-1.0, 2.0]), slope=0.2)
        array([-0.2,  2. ])
    """
    x = checks.real("leaky_relu", x=x)["x"]
    return np.where(x > 0, x, slope * x)


def leaky_relu_vjp(
    dy: checks.RealArray, x: Real[np.ndarray, "*shape"], *, slope: float = 0.01
) -> tuple[Float64[np.ndarray, "*shape"]]:
    """dx = dy where x > 0, and slope · dy elsewhere, at 0 too (as in torch).

    Args:
        dy: Gradient with respect to the output.
        x: The values.
        slope: Of the negative side.

    Example:
        >>> leaky_relu_vjp(np.array([3.0, 3.0]), np.array([-1.0, 2.0]), slope=0.5)
        (array([1.5, 3. ]),)
    """
    dy, x = _pair("leaky_relu_vjp", dy, x)
    return (np.where(x > 0, dy, slope * dy),)


def tanh(x: Real[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """y = tanh(x).

    Args:
        x: The values.

    Example:
        >>> tanh(np.array([0.0, 1000.0]))
        array([0., 1.])
    """
    y: Float64[np.ndarray, "*shape"] = np.asarray(np.tanh(checks.real("tanh", x=x)["x"]))
    return y


def tanh_vjp(dy: checks.RealArray, x: Real[np.ndarray, "*shape"]) -> tuple[Float64[np.ndarray, "*shape"]]:
    """dx = dy · (1 − tanh²(x)).

    Args:
        dy: Gradient with respect to the output.
        x: The values.

    Example:
        >>> tanh_vjp(np.array([3.0]), np.array([0.0]))
        (array([3.]),)
    """
    dy, x = _pair("tanh_vjp", dy, x)
    return (np.asarray(dy * (1 - np.tanh(x) ** 2)),)


def sigmoid(x: Real[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """y = 1 / (1 + exp(−x)), written so that nothing overflows.

    Args:
        x: The values.

    Example:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    x = checks.real("sigmoid", x=x)["x"]
    decay = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, decay) / (1 + decay))


def sigmoid_vjp(dy: checks.RealArray, x: Real[np.ndarray, "*shape"]) -> tuple[Float64[np.ndarray, "*shape"]]:
    """dx = dy · sigmoid(x) · sigmoid(−x), written so that nothing is lost where sigmoid(x) is next to 1.

    Args:
        dy: Gradient with respect to the output.
        x: The values.

    Example:
        >>> sigmoid_vjp(np.array([4.0]), np.array([0.0]))
        (array([1.]),)
    """
    dy, x = _pair("sigmoid_vjp", dy, x)
    decay = np.exp(-np.abs(x))
    return (np.asarray(dy * decay / (1 + decay) ** 2),)


def _pair(
    where: str, dy: checks.RealArray, x: checks.RealArray
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"]]:
    a = checks.real(where, dy=dy, x=x)
    errors.invalid_input(where, checks.upstream(a))
    return a["dy"], a["x"]
