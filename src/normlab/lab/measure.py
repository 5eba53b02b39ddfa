"""Everything that is measured at one moment of a run, without moving the model by a bit."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.distributions import Place, distributions, flat_ends, number
from normlab.lab.grid import Histogram
from normlab.lab.judge import Judge
from normlab.lab.preserve import preserved
from normlab.lab.sites import BatchNorm, Layout, Site, watched
from normlab.lab.streams import torch_stream
from normlab.lab.tensors import tensor


@dataclass(frozen=True)
class Probe:
    """What every measurement of a run looks at: places, `size` fixed training samples, then the whole test set."""

    layout: Layout
    judge: Judge
    size: int
    x: torch.Tensor
    y: torch.Tensor
    test_batch: torch.Tensor  # where in x the test samples of train mode are: as many, evenly spaced
    eval_batch: int  # test samples evaluated at once
    keeps_output: bool  # whether the output for every test sample is recorded

    @classmethod
    def of(cls, model: nn.Module, data: Dataset, judge: Judge, config: RunConfig) -> "Probe":
        """`config.probe` training samples chosen by the seed, and the whole test set."""
        generator = torch_stream(config.seed, "probe")
        chosen = torch.randperm(len(data.x_train), generator=generator)[: config.probe].numpy()
        x = torch.cat([tensor(data.x_train[chosen], config), tensor(data.x_test, config)])
        y = torch.cat([tensor(data.y_train[chosen], config), tensor(data.y_test, config)])
        # evenly spaced, since the first samples of a test set may be all of one kind (the leftmost points of a curve)
        count, tests = min(config.probe, len(data.x_test)), len(data.x_test)
        test_batch = len(chosen) + torch.arange(count) * (tests - 1) // max(count - 1, 1)
        layout = Layout.of(model)
        return cls(layout, judge, len(chosen), x, y, test_batch, config.eval_batch, config.data == "curve")


@dataclass(frozen=True)
class Measurement:
    """One line of `metrics.jsonl` (less the times) and the histograms of the same moment."""

    record: dict[str, Any]
    histograms: dict[Place, Histogram]


def measure(model: nn.Module, probe: Probe) -> Measurement:
    """Loss, metric and distributions in train and in eval mode, gradients, and the gap of the running statistics.

    In train mode the test set is judged on `probe.size` samples of it, a batch like those of training; in eval mode
    on all of it.

    The model is bit-equal afterwards: modes, buffers, gradients and random state.
    """
    judge, size, layout = probe.judge, probe.size, probe.layout
    with preserved(model):
        running = {name: _running(norm) for name, norm in layout.batch_norms.items()}
        # eval first: a forward pass in train mode moves the running statistics that eval mode reads
        model.eval()
        eval_values, eval_output = _evaluated(model, probe)
        model.train()
        with watched(layout) as train_values:
            output = model(probe.x[:size])
            loss = judge.loss(output, probe.y[:size])
        gradients = _gradient_norms(layout, loss)
        test_output = eval_output[probe.test_batch]
        if layout.modes_differ:
            with torch.no_grad():
                test_output = model(probe.x[probe.test_batch])
    scores = {
        "train": {
            "train": judge.scores(output.detach(), probe.y[:size]),
            "eval": judge.scores(eval_output[:size], probe.y[:size]),
        },
        "test": {
            "train": judge.scores(test_output, probe.y[probe.test_batch]),
            "eval": judge.scores(eval_output[size:], probe.y[size:]),
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
        "gradient_norm": {name: norms[0] for name, norms in gradients.items()},
        "bias_gradient_norm": {name: norms[1] for name, norms in gradients.items() if len(norms) > 1},
        "statistics_gap": {
            name: _gap(train_values[Site(name, "pre_norm")], *before)
            for name, before in running.items()
            if Site(name, "pre_norm") in train_values  # a layer that this forward pass does not use
        },
        "sites": sites,
    }
    if probe.keeps_output:
        record["prediction"] = [number(value) for value in eval_output[size:].flatten()]
    return Measurement(record, counted)


def _evaluated(model: nn.Module, probe: Probe) -> tuple[dict[Site, torch.Tensor], torch.Tensor]:
    """What is seen of the probe samples, and the output of all: in one pass if they are few, or else in several."""
    few = len(probe.x) <= probe.eval_batch
    with torch.no_grad():
        with watched(probe.layout) as values:
            outputs = [model(probe.x if few else probe.x[: probe.size])]
        if not few:
            outputs += [model(batch) for batch in probe.x[probe.size :].split(probe.eval_batch)]
    return values, torch.cat(outputs)


def _part(
    scores: dict[str, dict[str, tuple[float | None, float | None]]], index: int
) -> dict[str, dict[str, float | None]]:
    return {of: {mode: pair[index] for mode, pair in modes.items()} for of, modes in scores.items()}


def _gradient_norms(layout: Layout, loss: torch.Tensor) -> dict[str, list[float | None]]:
    """Of each layer's weight, and of its bias if it has one."""
    layers = {
        name: [each for each in (layer.weight, layer.bias) if each is not None]
        for name, layer in layout.weights.items()
    }
    flat = [parameter for parameters in layers.values() for parameter in parameters]
    # autograd.grad leaves the `.grad` of the parameters alone; a layer that the loss does not depend on has none
    gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True))
    return {
        name: [0.0 if found is None else number(found.norm()) for found in itertools.islice(gradients, len(parameters))]
        for name, parameters in layers.items()
    }


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
