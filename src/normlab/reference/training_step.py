"""One step of training: a batch in, everything that has been learned from it out."""

import math

from normlab.reference import checks
from normlab.reference.network import Arrays, Network
from normlab.reference.optimizers import OPTIMIZERS, States
from normlab.reference.propagation import loss_and_gradients
from normlab.reference.solver import Solver


def training_step(
    net: Network,
    parameters: Arrays,
    running: Arrays,
    states: States,
    x: checks.RealArray,
    targets: checks.RealArray,
    *,
    solver: Solver,
    epoch: int,
    step: int,
) -> tuple[float, Arrays, Arrays, States]:
    """Loss and gradients of a batch, and then the step of the optimizer; nothing that was given is changed.

    If the loss is not finite no step is taken: parameters and states come back as they were. Running statistics take
    what is finite of such a batch and skip the rest (`update_running`), where torch's are spoilt for ever.

    Args:
        net: The architecture.
        parameters: By name.
        running: The running statistics by name, empty without batch norm.
        states: What the optimizer remembers of each parameter; empty before the first step.
        x: The samples of the batch.
        targets: Their classes, or values, as in `loss_and_gradients`.
        solver: Optimizer, learning rate, weight decay and the seed of dropout.
        epoch: Decides the learning rate; the first one is 0.
        step: Decides the masks of dropout, together with the solver's seed; counted over all epochs.

    Returns:
        The loss before the step, L2 of the network included; parameters, running statistics and states after it.

    Raises:
        InvalidInputError: Something does not fit the network.

    Example:
        >>> import numpy as np
        >>> from normlab.reference import FullyConnected
        >>> net = FullyConnected(1, (), 1, loss="mean_squared_error")
        >>> start = {"output.weight": np.array([[2.0]]), "output.bias": np.array([0.0])}
        >>> batch = np.array([[1.0]]), np.array([[1.0]])
        >>> loss, after, _, _ = training_step(net, start, {}, {}, *batch, solver=Solver(lr=0.25), epoch=0, step=0)
        >>> loss, after
        (1.0, {'output.weight': array([[1.5]]), 'output.bias': array([-0.5])})
    """
    loss, gradients, running = loss_and_gradients(
        net, parameters, x, targets, running=running, seed=solver.seed, step=step
    )
    if not math.isfinite(loss):
        return loss, parameters, running, states
    update, lr = OPTIMIZERS[solver.optimizer], solver.lr_of(epoch)
    moved = {}
    for name, gradient in gradients.items():
        before = parameters[name].astype(net.dtype)
        decayed = gradient + solver.weight_decay * before
        moved[name] = update(before, decayed, states.get(name, {}), lr=lr, **solver.settings)
    return (
        loss,
        {name: values for name, (values, _) in moved.items()},
        running,
        {name: state for name, (_, state) in moved.items()},
    )
