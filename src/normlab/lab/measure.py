"""Everything that is measured at one moment of a run, without moving the model by a bit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from normlab.lab.data.dataset import Dataset, Task
from normlab.lab.distributions import Place, distributions, flat_ends, number
from normlab.lab.grid import Histogram
from normlab.lab.preserve import preserved
from normlab.lab.sites import BatchNorm, Layout, Site, watched


@dataclass(frozen=True)
class Probe:
    """What every measurement of a run looks at: places, `size` fixed training samples, then the whole test set."""

    layout: Layout
    task: Task
    size: int
    x: torch.Tensor
    y: torch.Tensor
    test_batch: torch.Tensor  # where in x the test samples of train mode are: as many, evenly spaced

    @classmethod
    def of(cls, model: nn.Module, data: Dataset, size: int, generator: torch.Generator) -> "Probe":
        """`size` training samples chosen by the generator, and the whole test set."""
        chosen = torch.randperm(len(data.x_train), generator=generator)[:size]
        x = torch.cat([torch.from_numpy(data.x_train)[chosen], torch.from_numpy(data.x_test)])
        y = torch.cat([torch.from_numpy(data.y_train)[chosen], torch.from_numpy(data.y_test)])
        # evenly spaced, since the first samples of a test set may be all of one kind (the leftmost points of a curve)
        count, tests = min(size, len(data.x_test)), len(data.x_test)
        test_batch = len(chosen) + torch.arange(count) * (tests - 1) // max(count - 1, 1)
        return cls(Layout.of(model), data.task, len(chosen), x, y, test_batch)


@dataclass(frozen=True)
class Measurement:
    """One line of `metrics.jsonl` (less the times) and the histograms of the same moment."""

    record: dict[str, Any]
    histograms: dict[Place, Histogram]


def loss_of(task: Task, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of labels, mean squared error of values; the mean over samples."""
    return functional.cross_entropy(output, y) if task == "classification" else functional.mse_loss(output, y)


def measure(model: nn.Module, probe: Probe) -> Measurement:
    """Loss, metric and distributions in train and in eval mode, gradients, and the gap of the running statistics.

    In train mode the test set is judged on `probe.size` samples of it, a batch like those of training; in eval mode
    on all of it.

    The model is bit-equal afterwards: modes, buffers, gradients and random state.
    """
    task, size, layout = probe.task, probe.size, probe.layout
    with preserved(model):
        running = {name: _running(norm) for name, norm in layout.batch_norms.items()}
        # eval first: a forward pass in train mode moves the running statistics that eval mode reads
        model.eval()
        with watched(layout) as eval_values, torch.no_grad():
            eval_output = model(probe.x)
        model.train()
        with watched(layout) as train_values:
            output = model(probe.x[:size])
            loss = loss_of(task, output, probe.y[:size])
        gradients = _gradient_norms(layout, loss)
        test_output = eval_output[probe.test_batch]
        if layout.modes_differ:
            with torch.no_grad():
                test_output = model(probe.x[probe.test_batch])
    scores = {
        "train": {
            "train": _score(task, output.detach(), probe.y[:size]),
            "eval": _score(task, eval_output[:size], probe.y[:size]),
        },
        "test": {
            "train": _score(task, test_output, probe.y[probe.test_batch]),
            "eval": _score(task, eval_output[size:], probe.y[size:]),
        },
    }
    seen: dict[Place, torch.Tensor] = {
        (site, "train" if layout.modes_differ else "both"): values for site, values in train_values.items()
    }
    if layout.modes_differ:
        seen |= {(site, "eval"): values[:size] for site, values in eval_values.items()}
    sites, counted = distributions(seen, flat_ends(layout))
    record: dict[str, Any] = {
        "loss": _part(scores, 0),
        "metric": _part(scores, 1),
        "gradient_norm": gradients,
        "statistics_gap": {
            name: _gap(train_values[Site(name, "pre_norm")], *before) for name, before in running.items()
        },
        "sites": sites,
    }
    if probe.task == "regression":
        record["prediction"] = [number(value) for value in eval_output[size:].flatten()]
    return Measurement(record, counted)


def _score(task: Task, output: torch.Tensor, y: torch.Tensor) -> tuple[float | None, float | None]:
    """Loss and metric; None for what is not finite."""
    loss = number(loss_of(task, output, y))
    if task == "regression" or loss is None:
        return loss, loss
    return loss, number((output.argmax(dim=1) == y).double().mean())


def _part(
    scores: dict[str, dict[str, tuple[float | None, float | None]]], index: int
) -> dict[str, dict[str, float | None]]:
    return {of: {mode: pair[index] for mode, pair in modes.items()} for of, modes in scores.items()}


def _gradient_norms(layout: Layout, loss: torch.Tensor) -> dict[str, float | None]:
    layers = layout.weights
    # autograd.grad leaves the `.grad` of the parameters alone
    gradients = torch.autograd.grad(loss, [layer.weight for layer in layers.values()])
    return {name: number(gradient.norm()) for name, gradient in zip(layers, gradients, strict=True)}


def _running(norm: BatchNorm) -> tuple[np.ndarray, np.ndarray, float]:
    return norm.get_buffer("running_mean").numpy().copy(), norm.get_buffer("running_var").numpy().copy(), norm.eps


def _gap(x: torch.Tensor, mean: np.ndarray, var: np.ndarray, eps: float) -> dict[str, float | None]:
    """How far the running statistics are from those of the probe batch, as root mean square over channels.

    `mean` is in running standard deviations; `var` is the natural logarithm of the ratio of variances.
    """
    values = x.transpose(0, 1).flatten(1).numpy()  # NumPy starts an operation on 64 channels in half the time
    with np.errstate(all="ignore"):  # a diverged run gives values that are not finite; they are recorded as None
        batch_mean = values.mean(axis=1, dtype=np.float64)
        batch_var = np.square(values - batch_mean[:, None]).sum(axis=1) / (values.shape[1] - 1)
        shift = (batch_mean - mean) / np.sqrt(var + eps)
        ratio = np.log((batch_var + eps) / (var + eps))
    return {"mean": number(np.sqrt(np.square(shift).mean())), "var": number(np.sqrt(np.square(ratio).mean()))}
