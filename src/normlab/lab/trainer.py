"""Training by torch: one pass over the training set at a time."""

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.distributions import number
from normlab.lab.judge import Judge
from normlab.lab.models.seeded_dropout import SeededDropout
from normlab.lab.processes import Processes
from normlab.lab.random_states import random_states, set_random_states
from normlab.lab.sites import Layout
from normlab.lab.streams import stream_seed, torch_stream
from normlab.lab.tensors import tensor


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training set did."""

    order: bytes = b""
    steps: int = 0
    seconds: float = 0.0
    diverged: bool = False
    batch_loss: float | None = None  # mean over the steps of the loss of their batch, before the step
    update_ratio: dict[str, float | None] | None = None


class Trainer(Protocol):
    """What an engine is to the lab. `model` is in torch, whatever trains it, and is what is measured."""

    model: nn.Module

    def epoch(self, number: int) -> Epoch:
        """Trains one epoch, counted from 1; ends early at the first loss that is not finite."""

    def state(self) -> dict[str, Any]:
        """Everything that the next epochs depend on: tensors, numbers and strings."""

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to such a state."""


class TorchTrainer:
    """A network, its optimizer and its data, in torch."""

    def __init__(self, config: RunConfig, model: nn.Module, data: Dataset, judge: Judge, processes: Processes) -> None:
        self.model = model
        self._config, self._judge, self._processes = config, judge, processes
        self._x, self._y = tensor(data.x_train, config), tensor(data.y_train, config)
        self._optimizer = _optimizer(config, model)
        if processes.rank:  # each process drops other values
            for module in model.modules():
                if isinstance(module, SeededDropout):
                    module.seed = stream_seed(config.seed, f"dropout of process {processes.rank}")
        self._shared: nn.Module = model if processes.size == 1 else DistributedDataParallel(model)

    def epoch(self, number: int) -> Epoch:
        """One pass in a fresh order; ends early at the first loss that is not finite."""
        order, batches = epoch_batches(self._config, len(self._x), number)
        weights = {name: layer.weight for name, layer in Layout.of(self.model).weights.items()}
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._config, number)
        self.model.train()
        losses: list[float] = []
        diverged = False
        before: dict[str, torch.Tensor] = {}
        began = time.perf_counter()
        for step, batch in enumerate(batches, start=1):
            chosen = self._processes.share(batch)
            loss = self._judge.loss(self._shared(self._x[chosen]), self._y[chosen])
            if self._processes.size > 1:  # gradients are averaged over processes, whose shares may differ by one
                loss = loss * (len(chosen) * self._processes.size / len(batch))
            losses.append(loss.item())
            diverged = not self._processes.all(bool(np.isfinite(losses[-1])))
            if diverged:
                break
            self._optimizer.zero_grad()
            loss.backward()
            if step == len(batches):
                before = {name: weight.detach().clone() for name, weight in weights.items()}
            self._optimizer.step()
        seconds = time.perf_counter() - began
        ratio = {name: _ratio(weights[name].detach(), old) for name, old in before.items()}
        mean = self._processes.mean(float(np.mean(losses)))
        return Epoch(order, len(losses), seconds, diverged, mean if np.isfinite(mean) else None, ratio or None)

    def state(self) -> dict[str, Any]:
        """Weights, buffers, the optimizer's memory, and the random streams."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": random_states(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to such a state."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        set_random_states(state["random"])


def epoch_batches(config: RunConfig, samples: int, number: int) -> tuple[bytes, list[torch.Tensor]]:
    """The order of an epoch, as bytes to be hashed, and its batches: the same whichever engine trains."""
    order = torch.randperm(samples, generator=torch_stream(config.seed, f"order {number}"))
    # a last batch of one sample for each process is left out: it has no variance for batch norm to train on
    batches = [chosen for chosen in order.split(config.batch) if len(chosen) > 2 * config.processes - 1]
    return order.numpy().tobytes(), batches


def learning_rate(config: RunConfig, epoch: int) -> float:
    """Of an epoch, counted from 1."""
    return config.optimizer.lr * config.optimizer.lr_decay ** (epoch - 1)


def _ratio(new: torch.Tensor, old: torch.Tensor) -> float | None:
    return number((new - old).norm() / old.norm())


def _optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    settings = config.optimizer
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    match settings.name:
        case "adam":
            return torch.optim.Adam(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
