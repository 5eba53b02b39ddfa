"""One run: a config in, a folder of records out."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from normlab.lab.checkpoint import Checkpoint, resumed, save_checkpoint
from normlab.lab.config import RunConfig
from normlab.lab.data import load_data
from normlab.lab.data.dataset import Dataset
from normlab.lab.environment import environment
from normlab.lab.judge import Judge, judge_of
from normlab.lab.measure import Measurement, Probe, measure
from normlab.lab.network import described_network, network
from normlab.lab.own import seeded
from normlab.lab.population import set_population_statistics
from normlab.lab.processes import Processes, connected
from normlab.lab.record import (
    CHECKPOINT,
    ENDED,
    HISTOGRAMS,
    METRICS,
    MODEL,
    WEIGHTS,
    State,
    Status,
    append_lines,
    begin,
    write_status,
    write_whole,
)
from normlab.lab.sites import Weights
from normlab.lab.streams import stream_seed
from normlab.lab.tensors import tensor
from normlab.lab.trainer import Epoch, TorchTrainer, Trainer

OnEpoch = Callable[[Status, float | None], None]
CHECKPOINT_SECONDS = 20.0  # a run loses less than this when it is interrupted; writing one takes milliseconds


@dataclass(frozen=True)
class Log:
    """What is kept of a run, by the first of its processes alone."""

    folder: Path
    probe: Probe
    processes: Processes
    on_epoch: OnEpoch
    checkpoint_seconds: float

    def record(self, model: nn.Module, epoch: int, steps: int, trained: Epoch) -> tuple[float | None, float | None]:
        """Measures and appends the lines of one epoch; returns the test metric and the training loss."""
        metric: float | None = None
        loss: float | None = 0.0
        if self.processes.rank == 0:
            metric, loss = _record(self.folder, model, self.probe, epoch, steps, trained)
        return metric, loss if self.processes.all(loss is not None) else None

    def say(self, model: nn.Module, status: Status, metric: float | None) -> None:
        """Writes where the run stands, and its weights if it has ended."""
        if self.processes.rank:
            return
        if status.state in ENDED:
            # copies: a file of tensors takes no two that share their memory, as tied layers do
            weights = {name: value.detach().contiguous().clone() for name, value in model.state_dict().items()}
            write_whole(self.folder / WEIGHTS, save(weights))
        write_status(self.folder, status)
        if status.state in ENDED:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self.on_epoch(status, metric)


def run(config: RunConfig, folder: Path, on_epoch: OnEpoch, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> Status:
    """Trains one network and records it, epoch by epoch.

    Args:
        config: every setting of the run.
        folder: where the records go. An interrupted attempt of the same run there goes on from its checkpoint; any
            other is moved aside.
        on_epoch: called after each measurement with the status and the test metric (None if not finite).
        checkpoint_seconds: least time between two checkpoints.

    Returns:
        The status at the end: `done`, or `diverged` if a training loss was not finite.

    Raises:
        OSError: the records cannot be written.
        UsageError: the user's own network, data, loss or metric cannot be used.
    """
    with _exact(config.threads), torch.random.fork_rng(devices=[]), connected() as processes:
        data = load_data(config.data, config.data_seed, config.train_samples)
        model, swapped = network(config, data)
        judge = judge_of(config, data)
        purpose = f"dropout of process {processes.rank}" if processes.rank else "dropout"
        with seeded(stream_seed(config.seed, purpose)):  # what a network of the user's may draw from
            trainer = _trainer(config, model, data, judge, processes)
            probe = Probe.of(model, data, judge, config)
            start = Checkpoint(-1, 0, "", _hash_of_weights(model), {})
            if processes.rank == 0:
                start = _begun(config, folder, trainer, data, start, described_network(model, swapped))
            log = Log(folder, probe, processes, on_epoch, checkpoint_seconds)
            return _epochs(config, trainer, data, log, start)


def _begun(
    config: RunConfig, folder: Path, trainer: Trainer, data: Dataset, start: Checkpoint, described: dict[str, Any]
) -> Checkpoint:
    """Where to go on from: a checkpoint of this very run, or else the start, in a new folder."""
    here = environment(config, data.sha256())
    found = resumed(folder, config, here) if config.processes == 1 else None
    if found is not None:
        trainer.restore(found.trainer)
        return found
    begin(folder, config, here)
    write_whole(folder / MODEL, json.dumps(described, indent=1) + "\n")
    return start


def _epochs(config: RunConfig, trainer: Trainer, data: Dataset, log: Log, last: Checkpoint) -> Status:
    """The epochs after that checkpoint; epoch 0 is the untrained network."""
    steps, order = last.steps, last.order
    saved = time.monotonic()
    for epoch in range(last.epoch + 1, config.epochs + 1):
        trained = trainer.epoch(epoch) if epoch else Epoch()
        steps += trained.steps
        if epoch:
            order = hashlib.sha256(order.encode() + trained.order).hexdigest()
        if isinstance(config.norm_momentum, str) and not trained.diverged:
            set_population_statistics(trainer.model, tensor(data.x_train, config), config.batch, config.norm_momentum)
        metric, loss = log.record(trainer.model, epoch, steps, trained)
        state: State = "running"
        reason = ""
        if trained.diverged:
            state, reason = "diverged", f"the training loss of step {steps} (epoch {epoch}) is not finite"
        elif loss is None:  # the weights blew up in the last step of the epoch
            state, reason = "diverged", f"the training loss after step {steps} (epoch {epoch}) is not finite"
        elif epoch == config.epochs:
            state = "done"
        status = Status(state, epoch, config.epochs, reason, last.initial_weights, order)
        if state == "running" and config.processes == 1 and time.monotonic() - saved > log.checkpoint_seconds:
            save_checkpoint(log.folder, config, Checkpoint(epoch, steps, order, last.initial_weights, trainer.state()))
            saved = time.monotonic()
        log.say(trainer.model, status, metric)
        if state != "running":
            break
    return status


def _record(
    folder: Path, model: nn.Module, probe: Probe, epoch: int, steps: int, trained: Epoch
) -> tuple[float | None, float | None]:
    began = time.perf_counter()
    measured = measure(model, probe)
    append_lines(folder / HISTOGRAMS, _histogram_lines(epoch, measured))
    trained_so = {"batch_loss": trained.batch_loss, "update_ratio": trained.update_ratio}
    line = {"epoch": epoch, "step": steps} | measured.record | trained_so
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


def _trainer(config: RunConfig, model: nn.Module, data: Dataset, judge: Judge, processes: Processes) -> Trainer:
    if config.engine == "reference":
        from normlab.lab.reference_trainer import ReferenceTrainer

        return ReferenceTrainer(config, model, data)
    return TorchTrainer(config, model, data, judge, processes)


def _hash_of_weights(model: nn.Module) -> str:
    """Hash of the weight of every linear and convolution layer: what variants must have in common at the start.

    Biases start at a constant, and a variant may be the one without them.
    """
    digest = hashlib.sha256()
    for module in model.modules():
        if isinstance(module, Weights):
            digest.update(module.weight.detach().numpy().tobytes())
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
