"""Training by the NumPy reference, from the same weights and over the same batches as torch."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from normlab import reference
from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.models.block import Block
from normlab.lab.models.seeded_dropout import SeededDropout
from normlab.lab.sites import Layout
from normlab.lab.trainer import Epoch, epoch_batches
from normlab.reference import Layer
from normlab.reference.network import Arrays
from normlab.reference.optimizers import States

# the names of optimizers that differ, and the settings they have
OPTIMIZERS = {"sgd": "momentum", "adam": "adam", "rmsprop": "rmsprop"}


class ReferenceTrainer:
    """A network of the reference, and its twin in torch that is only looked at: after each epoch it gets the weights
    and the running statistics."""

    def __init__(self, config: RunConfig, model: nn.Module, data: Dataset) -> None:
        self.model = model
        self._config = config
        loss = "cross_entropy" if data.task == "classification" else "mean_squared_error"
        layers = tuple(reference_layers(model, config))
        self._net = reference.Sequential(layers, loss=loss, dtype=config.dtype)
        self._x, self._y = (_as_reference(array, config) for array in (data.x_train, data.y_train))
        optimizer = config.optimizer
        self._solver = reference.Solver(
            OPTIMIZERS[optimizer.name],
            lr=optimizer.lr,
            lr_decay=optimizer.lr_decay,
            settings={"momentum": optimizer.momentum} if optimizer.name == "sgd" else {},
            seed=next((module.seed for module in model.modules() if isinstance(module, SeededDropout)), 0),
            weight_decay=optimizer.weight_decay,
        )
        arrays = {name: value.numpy().copy() for name, value in model.state_dict().items()}
        self._parameters: Arrays = {name: arrays[name] for name in self._net.parameter_shapes}
        self._running: Arrays = {name: arrays[name].astype(np.float64) for name in self._net.running_shapes}
        self._states: States = {}
        self._step = 0

    def epoch(self, number: int) -> Epoch:
        """One pass in a fresh order; ends early at the first loss that is not finite."""
        order, batches = epoch_batches(self._config, len(self._x), number)
        weights = [f"{name}.weight" for name in self._weight_names()]
        losses: list[float] = []
        before: dict[str, np.ndarray] = {}
        began = time.perf_counter()
        for place, batch in enumerate(batches, start=1):
            chosen = batch.numpy()
            if place == len(batches):
                before = {name: self._parameters[name].copy() for name in weights}
            with np.errstate(all="ignore"):  # a run that diverges is recorded as that
                loss, self._parameters, self._running, self._states = reference.training_step(
                    self._net, self._parameters, self._running, self._states, self._x[chosen], self._y[chosen],
                    solver=self._solver, epoch=number - 1, step=self._step,
                )  # fmt: skip
            losses.append(loss)
            self._step += 1
            if not np.isfinite(loss):
                before = {}
                break
        seconds = time.perf_counter() - began
        self._show()
        ratio = {
            label: _ratio(self._parameters[name], before[name])
            for label, name in zip(Layout.of(self.model).weights, weights, strict=False)
            if name in before
        }
        mean = float(np.mean(losses))
        diverged = not np.isfinite(losses[-1])
        return Epoch(order, len(losses), seconds, diverged, mean if np.isfinite(mean) else None, ratio or None)

    def state(self) -> dict[str, Any]:
        """Weights, running statistics, the optimizer's memory, and the number of steps."""
        return {
            "parameters": _tensors(self._parameters),
            "running": _tensors(self._running),
            "states": {name: _tensors(state) for name, state in self._states.items()},
            "step": self._step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to such a state."""
        self._parameters, self._running = _arrays(state["parameters"]), _arrays(state["running"])
        self._states = {name: _arrays(each) for name, each in state["states"].items()}
        self._step = state["step"]
        self._show()

    def _weight_names(self) -> list[str]:
        return [layer.name for layer in self._net.layers if layer.is_linear]

    def _show(self) -> None:
        """Gives the twin what has been learned."""
        found = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in
                 (dict(self._parameters) | dict(self._running)).items()}  # fmt: skip
        counters = {
            name: torch.tensor(self._step)
            for name in self.model.state_dict()
            if name.endswith((".num_batches_tracked", ".steps"))
        }
        self.model.load_state_dict(found | counters)


def reference_layers(model: nn.Module, config: RunConfig) -> Iterator[Layer]:
    """The layers of a straight network of the lab, each as the reference has it.

    Args:
        model: an mlp or conv, as `build_model` makes it.
        config: its settings.
    """
    norm = None if config.norm == "none" else config.norm
    for name, module in model.named_children():
        match module:
            case Block():
                if module.weights is not None:
                    yield _weights(f"{name}.weights", module.weights)
                if module.norm is not None:
                    yield from reference.norm_layers(
                        f"{name}.norm",
                        norm,
                        _channels(module.norm),
                        groups=config.norm_groups,
                        eps=config.norm_eps,
                        momentum=config.running_momentum,
                    )
                if module.activation is not None:
                    yield reference.activation_layer(f"{name}.activation", config.model.activation)
                if module.dropout is not None:
                    yield from reference.dropout_layers(f"{name}.dropout", module.dropout.p)
            case nn.Flatten():
                yield reference.flatten_layer(name)
            case nn.AdaptiveAvgPool2d():
                yield reference.global_avg_pool_layer(name)
            case _:
                yield _weights(name, module)


def _weights(name: str, module: nn.Module) -> Layer:
    if isinstance(module, nn.Linear):
        return reference.linear_layer(name, module.in_features, module.out_features, bias=module.bias is not None)
    if isinstance(module, nn.Conv2d):
        bias = module.bias is not None
        return reference.conv_layer(name, module.in_channels, module.out_channels, module.kernel_size[0], bias=bias)
    raise TypeError(f"{name}: the reference has no layer for {type(module).__name__}")


def _channels(norm: nn.Module) -> int:
    return next(norm.parameters()).numel()


def _as_reference(array: np.ndarray, config: RunConfig) -> np.ndarray:
    return array if array.dtype.kind in "iu" else array.astype(config.dtype)


def _ratio(new: np.ndarray, old: np.ndarray) -> float | None:
    with np.errstate(all="ignore"):
        ratio = float(np.linalg.norm(new - old) / np.linalg.norm(old))
    return ratio if np.isfinite(ratio) else None


def _tensors(values: Any) -> dict[str, Any]:
    return {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _arrays(values: Any) -> dict[str, Any]:
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in values.items()}
