"""Training: from batch to batch, keeping what is needed to look back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from normlab.reference import checks
from normlab.reference.network import Arrays, Network, init_running
from normlab.reference.optimizers import OPTIMIZERS, State
from normlab.reference.propagation import accuracy, loss_and_gradients
from normlab.reference.solver import Solver

Labelled = tuple[checks.RealArray, checks.RealArray]  # samples, and their classes
Batches = Sequence[Sequence[Int[np.ndarray, "_"]]]  # for each epoch, the samples of each batch


@dataclass(frozen=True)
class Snapshot:
    """What a network had learned after an epoch; epoch 0 is the start."""

    epoch: int
    parameters: Arrays
    running: Arrays


@dataclass(frozen=True)
class Trained:
    """What training led to. Accuracies are in evaluation, the first of them that of the start."""

    losses: tuple[float, ...]  # of each step's batch before the step, L2 included
    train_accuracy: tuple[float, ...]  # of each epoch
    validation_accuracy: tuple[float, ...]  # of each epoch
    best: Snapshot  # where the validation accuracy was largest, first among equals
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
        training_set: Samples and their classes.
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
        >>> len(done.losses), done.validation_accuracy[-1], done.last.epoch
        (3, 1.0, 3)
    """
    last = best = Snapshot(0, {name: start.astype(net.dtype) for name, start in parameters.items()}, init_running(net))
    states: dict[str, State] = {name: {} for name in parameters}
    losses: list[float] = []
    sets = training_set, validation_set
    accuracies = [_judged(net, last, *sets)]
    for epoch, of_epoch in enumerate(batches):
        lr = solver.lr * solver.lr_decay**epoch
        after, ran = _epoch(net, last, states, training_set, of_epoch, solver, lr, first_step=len(losses))
        losses += ran
        if not all(map(math.isfinite, ran)):
            break
        last = after
        accuracies.append(_judged(net, last, *sets))
        if accuracies[-1][1] > accuracies[best.epoch][1]:
            best = last
    of_train, of_validation = zip(*accuracies, strict=True)
    return Trained(tuple(losses), of_train, of_validation, best, last)


def _epoch(
    net: Network,
    before: Snapshot,
    states: dict[str, State],
    training_set: Labelled,
    batches: Sequence[Int[np.ndarray, "_"]],
    solver: Solver,
    lr: float,
    *,
    first_step: int,
) -> tuple[Snapshot, list[float]]:
    """One pass, up to the first loss that is not finite; brings `states` forward."""
    x, labels = training_set
    update = OPTIMIZERS[solver.optimizer]
    parameters: dict[str, Any] = dict(before.parameters)
    running: Arrays = before.running
    losses: list[float] = []
    for step, chosen in enumerate(batches, first_step):
        loss, gradients, running = loss_and_gradients(
            net, parameters, x[chosen], labels[chosen], running=running, seed=solver.seed, step=step
        )
        losses.append(loss)
        if not math.isfinite(loss):
            break
        for name, gradient in gradients.items():
            parameters[name], states[name] = update(parameters[name], gradient, states[name], lr=lr, **solver.settings)
    return Snapshot(before.epoch + 1, parameters, running), losses


def _judged(net: Network, at: Snapshot, training_set: Labelled, validation_set: Labelled) -> tuple[float, float]:
    of_train, of_validation = (
        accuracy(net, at.parameters, *samples, running=at.running) for samples in (training_set, validation_set)
    )
    return of_train, of_validation
