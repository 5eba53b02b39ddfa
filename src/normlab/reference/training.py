"""Training: from batch to batch, keeping what is needed to look back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from normlab.reference import checks
from normlab.reference.losses import mean_squared_error
from normlab.reference.network import Arrays, Network
from normlab.reference.optimizers import States
from normlab.reference.propagation import accuracy, scores
from normlab.reference.solver import Solver
from normlab.reference.start import init_running
from normlab.reference.training_step import training_step

Labelled = tuple[checks.RealArray, checks.RealArray]  # samples, and their classes or values
Batches = Sequence[Sequence[Int[np.ndarray, "_"]]]  # for each epoch, the samples of each batch


@dataclass(frozen=True)
class Snapshot:
    """What a network had learned after an epoch; epoch 0 is the start."""

    epoch: int
    parameters: Arrays
    running: Arrays


@dataclass(frozen=True)
class Trained:
    """What training led to.

    The metric is the accuracy, or the mean squared error of a network that trains on it; in evaluation, of each epoch,
    the first one that of the start.
    """

    losses: tuple[float, ...]  # of each step's batch before the step, L2 included
    train_metric: tuple[float, ...]
    validation_metric: tuple[float, ...]
    best: Snapshot  # where the validation metric was best, first among equals
    last: Snapshot


def train(
    net: Network,
    parameters: Arrays,
    training_set: Labelled,
    validation_set: Labelled,
    *,
    solver: Solver,
    batches: Batches,
) -> Trained:
    """Trains a network. A loss that is not finite ends it, before the step, and with it the epoch is left out.

    Args:
        net: The architecture.
        parameters: To start from; left as they are.
        training_set: Samples and their classes or values.
        validation_set: The same, to choose the best weights by.
        solver: Optimizer, learning rate and the seed of dropout.
        batches: The samples of each batch of each epoch, for instance `shuffled_batches`.

    Returns:
        History, and the best and the last weights with their running statistics.

    Raises:
        InvalidInputError: Something does not fit the network.

    Example:
        >>> from normlab.reference import FullyConnected, init_parameters, shuffled_batches
        >>> data = np.array([[-1.0], [1.0]]), np.array([0, 1])
        >>> net = FullyConnected(1, (), 2)
        >>> plan = shuffled_batches(2, batch=2, epochs=3, seed=0)
        >>> done = train(net, init_parameters(net, 0), data, data, solver=Solver(lr=1.0), batches=plan)
        >>> len(done.losses), done.validation_metric[-1], done.last.epoch
        (3, 1.0, 3)
    """
    last = best = Snapshot(0, {name: start.astype(net.dtype) for name, start in parameters.items()}, init_running(net))
    states: States = {}
    losses: list[float] = []
    of_train, of_validation = [_metric(net, last, training_set)], [_metric(net, last, validation_set)]
    for of_epoch in batches:
        after, states, ran = _epoch(net, last, states, training_set, of_epoch, solver, first_step=len(losses))
        losses += ran
        if not all(map(math.isfinite, ran)):
            break
        last = after
        of_train.append(_metric(net, last, training_set))
        of_validation.append(_metric(net, last, validation_set))
        if _is_better(net, of_validation[-1], of_validation[best.epoch]):
            best = last
    return Trained(tuple(losses), tuple(of_train), tuple(of_validation), best, last)


def _epoch(
    net: Network,
    before: Snapshot,
    states: States,
    training_set: Labelled,
    batches: Sequence[Int[np.ndarray, "_"]],
    solver: Solver,
    *,
    first_step: int,
) -> tuple[Snapshot, States, list[float]]:
    """One pass, up to the first loss that is not finite."""
    x, targets = training_set
    parameters, running = before.parameters, before.running
    losses: list[float] = []
    for step, chosen in enumerate(batches, first_step):
        batch = x[chosen], targets[chosen]
        loss, parameters, running, states = training_step(
            net, parameters, running, states, *batch, solver=solver, epoch=before.epoch, step=step
        )
        losses.append(loss)
        if not math.isfinite(loss):
            break
    return Snapshot(before.epoch + 1, parameters, running), states, losses


def _metric(net: Network, at: Snapshot, samples: Labelled) -> float:
    if net.loss == "cross_entropy":
        return accuracy(net, at.parameters, *samples, running=at.running)
    x, values = samples
    return mean_squared_error(scores(net, at.parameters, x, running=at.running), values)


def _is_better(net: Network, new: float, old: float) -> bool:
    return new > old if net.loss == "cross_entropy" else new < old
