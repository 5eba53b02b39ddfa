"""Through a network forwards, and backwards for the gradients."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.batch_norm import batch_norm_statistics
from normlab.reference.chain import Bound, bound
from normlab.reference.losses import LOSSES
from normlab.reference.network import Arrays, Network
from normlab.reference.running import update_running


def scores(
    net: Network, parameters: Arrays, x: checks.RealArray, *, running: Arrays
) -> Float64[np.ndarray, "n *outputs"]:
    """What the network makes of each sample in evaluation: with running statistics, and nothing dropped.

    Args:
        net: The architecture.
        parameters: By name, as `init_parameters` returns them.
        x: One sample per row.
        running: The running statistics by name, empty without batch norm.

    Returns:
        One score per class, or the predicted values.

    Raises:
        InvalidInputError: A parameter or statistic is missing, unknown or of another shape; `x` does not fit.

    Example:
        >>> from normlab.reference import FullyConnected
        >>> parameters = {"output.weight": np.array([[1.0, 2.0]]), "output.bias": np.array([0.5])}
        >>> scores(FullyConnected(2, (), 1), parameters, np.array([[3.0, 4.0]]), running={})
        array([[11.5]])
    """
    chain = bound("scores", net, parameters, running, training=False, seed=0, step=0)
    found: Float64[np.ndarray, n * outputs] = _forward(net, chain, checks.real("scores", x=x)["x"])[-1]
    return found


def accuracy(
    net: Network, parameters: Arrays, x: checks.RealArray, labels: checks.RealArray, *, running: Arrays
) -> float:
    """Share of the samples whose right class has the largest score, in evaluation.

    Args:
        net: The architecture.
        parameters: As in `scores`, and so are `x` and `running`.
        x: One sample per row.
        labels: The right classes.
        running: The running statistics.

    Raises:
        InvalidInputError: As `scores`, or the labels do not fit.

    Example:
        >>> from normlab.reference import FullyConnected
        >>> parameters = {"output.weight": np.array([[0.0], [1.0]]), "output.bias": np.zeros(2)}
        >>> accuracy(FullyConnected(1, (), 2), parameters, np.array([[3.0], [-3.0]]), np.array([1, 1]), running={})
        0.5
    """
    problems = []
    if labels.dtype.kind not in "iu" or labels.shape != x.shape[:1]:
        problems.append(Problem("`labels` must be one integer per sample.", got=errors.describe(labels=labels, x=x)))
    errors.invalid_input("accuracy", problems)
    return float(np.mean(scores(net, parameters, x, running=running).argmax(axis=1) == labels))


def loss_and_gradients(
    net: Network,
    parameters: Arrays,
    x: checks.RealArray,
    targets: checks.RealArray,
    *,
    running: Arrays,
    training: bool = True,
    seed: int = 0,
    step: int = 0,
) -> tuple[float, dict[str, Float[np.ndarray, "..."]], dict[str, Float64[np.ndarray, " c"]]]:
    """The network's loss plus ½ · reg · Σ weight², its gradients, and the running statistics afterwards.

    Args:
        net: The architecture.
        parameters: By name.
        x: One sample per row.
        targets: The right classes, or for `mean_squared_error` the right values, shaped as the scores.
        running: The running statistics before this batch, empty without batch norm; left as they are.
        training: False normalizes with the running statistics, drops nothing, and updates nothing.
        seed: Of all dropout masks.
        step: Each step has its own masks.

    Returns:
        The loss; the gradient of every parameter, in the dtype of the network; the new running statistics.

    Raises:
        InvalidInputError: As `scores`; the targets do not fit the loss.

    Example:
        >>> from normlab.reference import FullyConnected
        >>> net = FullyConnected(1, (), 2, reg=0.5)
        >>> parameters = {"output.weight": np.array([[2.0], [2.0]]), "output.bias": np.zeros(2)}
        >>> loss, gradients, _ = loss_and_gradients(net, parameters, np.ones((1, 1)), np.array([0]), running={})
        >>> round(float(loss - np.log(2)), 9), gradients["output.weight"].ravel(), gradients["output.bias"]
        (2.0, array([0.5, 1.5]), array([-0.5,  0.5]))
    """
    where = "loss_and_gradients"
    chain = bound(where, net, parameters, running, training=training, seed=seed, step=step)
    given = checks.real(where, x=x, targets=targets)
    *inputs, last = _forward(net, chain, given["x"])
    loss_of, loss_vjp = LOSSES[net.loss]
    if net.loss == "mean_squared_error":
        targets = given["targets"].astype(net.dtype)
    loss = loss_of(last, targets)
    dy = loss_vjp(1.0, last, targets)[0]
    found: dict[str, Any] = {}
    after: dict[str, Any] = {name: value.copy() for name, value in running.items()}
    for (layer, arguments), seen in zip(reversed(chain), reversed(inputs), strict=True):
        dy, *gradients = layer.vjp(dy, seen, **arguments)
        found |= zip(layer.parameter_shapes, (g for g in gradients if g is not None), strict=True)
        if layer.is_linear:
            weight = arguments["weight"].astype(np.float64)
            loss += 0.5 * net.reg * float(np.sum(weight**2))
            found[f"{layer.name}.weight"] += net.reg * weight
        if training and layer.momentum is not None:
            mean, var, count = batch_norm_statistics(seen, axis=arguments.get("axis", 1))
            old_mean, old_var = arguments["running_mean"], arguments["running_var"]
            new = update_running(old_mean, old_var, mean, var, count, momentum=layer.momentum)
            after |= zip(layer.running_shapes, new, strict=True)
    return loss, {name: found[name].astype(net.dtype) for name in parameters}, after


def _forward(net: Network, chain: list[Bound], x: Float64[np.ndarray, "..."]) -> list[Any]:
    """The input of every layer in order, and the output of the last."""
    values: list[Any] = [x.astype(net.dtype).astype(np.float64)]
    for layer, arguments in chain:
        values.append(layer.op(values[-1], **arguments))
    return values
