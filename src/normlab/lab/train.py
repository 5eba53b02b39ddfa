"""One run: a config in, a folder of records out."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from normlab.lab.config import RunConfig
from normlab.lab.data import load_data
from normlab.lab.data.dataset import Task
from normlab.lab.distributions import number
from normlab.lab.environment import environment
from normlab.lab.measure import Measurement, Probe, loss_of, measure
from normlab.lab.models import build_model
from normlab.lab.record import (
    HISTOGRAMS,
    METRICS,
    WEIGHTS,
    State,
    Status,
    append_lines,
    begin,
    write_status,
    write_whole,
)
from normlab.lab.sites import Layout
from normlab.lab.streams import stream_seed, torch_stream

OnEpoch = Callable[[Status, float | None], None]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training set did."""

    order: bytes = b""
    steps: int = 0
    seconds: float = 0.0
    diverged: bool = False
    update_ratio: dict[str, float | None] | None = None


def run(config: RunConfig, folder: Path, on_epoch: OnEpoch) -> Status:
    """Trains one network and records it, epoch by epoch.

    Args:
        config: every setting of the run.
        folder: where the records go; an earlier attempt there is moved aside.
        on_epoch: called after each measurement with the status and the test metric (None if not finite).

    Returns:
        The status at the end: `done`, or `diverged` if a training loss was not finite.

    Raises:
        OSError: the records cannot be written.
    """
    with _exact(config.threads), torch.random.fork_rng(devices=[]):
        data = load_data(config.data, config.data_seed, config.train_samples)
        begin(folder, config, environment(config.threads, config.data, data.sha256()))
        model = build_model(config, data)
        torch.manual_seed(
            stream_seed(config.seed, "dropout")
        )  # from here on nothing else draws from torch's own stream
        optimizer = _optimizer(config, model)
        probe = Probe.of(model, data, config.probe, torch_stream(config.seed, "probe"))
        x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
        initial_weights = _hash_of_weights(model)
        order = hashlib.sha256()
        trained, steps = Epoch(), 0
        for epoch in range(config.epochs + 1):
            if epoch:
                trained = _train_epoch(model, optimizer, config, data.task, x, y, epoch)
                steps += trained.steps
                order.update(trained.order)
            state: State = "running"
            reason = ""
            if trained.diverged:
                state, reason = "diverged", f"the training loss of step {steps} (epoch {epoch}) is not finite"
            elif epoch == config.epochs:
                state = "done"
            metric, loss = _record(folder, model, probe, epoch, steps, trained)
            if loss is None and not trained.diverged:  # the weights blew up in the last step of the epoch
                state, reason = "diverged", f"the training loss after step {steps} (epoch {epoch}) is not finite"
            if state != "running":
                write_whole(folder / WEIGHTS, save(model.state_dict()))
            status = Status(state, epoch, config.epochs, reason, initial_weights, order.hexdigest())
            write_status(folder, status)
            on_epoch(status, metric)
            if state != "running":
                break
    return status


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: RunConfig,
    task: Task,
    x: torch.Tensor,
    y: torch.Tensor,
    epoch: int,
) -> Epoch:
    """One pass in a fresh order; ends early at the first loss that is not finite."""
    order = torch.randperm(len(x), generator=torch_stream(config.seed, f"order {epoch}"))
    # a last batch of one sample is left out: it has no variance for batch norm to train on
    batches = [chosen for chosen in order.split(config.batch) if len(chosen) > 1]
    weights = {name: layer.weight for name, layer in Layout.of(model).weights.items()}
    model.train()
    steps, diverged = 0, False
    before: dict[str, torch.Tensor] = {}
    began = time.perf_counter()
    for chosen in batches:
        loss = loss_of(task, model(x[chosen]), y[chosen])
        steps += 1
        diverged = not bool(loss.isfinite())
        if diverged:
            break
        optimizer.zero_grad()
        loss.backward()
        if steps == len(batches):
            before = {name: weight.detach().clone() for name, weight in weights.items()}
        optimizer.step()
    seconds = time.perf_counter() - began
    ratio = {name: number((weights[name].detach() - old).norm() / old.norm()) for name, old in before.items()}
    return Epoch(order.numpy().tobytes(), steps, seconds, diverged, ratio or None)


def _record(
    folder: Path, model: nn.Module, probe: Probe, epoch: int, steps: int, trained: Epoch
) -> tuple[float | None, float | None]:
    """Measures and appends the lines of one epoch; returns the test metric and the training loss."""
    began = time.perf_counter()
    measured = measure(model, probe)
    append_lines(folder / HISTOGRAMS, _histogram_lines(epoch, measured))
    line = {"epoch": epoch, "step": steps} | measured.record | {"update_ratio": trained.update_ratio}
    # times come last and under one key: all that differs when the same run is made twice
    seconds = {"train": trained.seconds, "steps": trained.steps, "measure": time.perf_counter() - began}
    append_lines(folder / METRICS, [line | {"seconds": seconds}])
    metric: float | None = measured.record["metric"]["test"]["eval"]
    return metric, measured.record["loss"]["train"]["train"]


def _histogram_lines(epoch: int, measured: Measurement) -> Iterator[dict[str, object]]:
    """Each histogram as the first occupied bin and the counts from there to the last."""
    for (site, mode), histogram in measured.histograms.items():
        occupied = histogram.counts.nonzero()[0]
        first, last = (int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else (0, 0)
        yield {
            "epoch": epoch,
            "layer": site.layer,
            "site": site.kind,
            "mode": mode,
            "first": first,
            "counts": histogram.counts[first:last].tolist(),
            "below": histogram.below,
            "above": histogram.above,
            "nonfinite": histogram.nonfinite,
        }


def _optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    settings = config.optimizer
    if settings.name == "adam":
        return torch.optim.Adam(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def _hash_of_weights(model: nn.Module) -> str:
    """Hash of every linear and convolution layer: what variants must have in common at the start."""
    digest = hashlib.sha256()
    for layer in Layout.of(model).weights.values():
        for parameter in layer.parameters():
            digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _exact(threads: int) -> Iterator[None]:
    """Deterministic algorithms on a fixed number of threads; the caller's settings come back afterwards."""
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_only_before)
