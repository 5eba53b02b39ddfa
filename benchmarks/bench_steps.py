"""A whole training step of ResNet-50 and DenseNet-121: stock, accelerated, and with less memory, in turns.

    python -m benchmarks.bench_steps [--quick] [--seconds 60]

32 images of 64 × 64; forward, loss, backward and a step of SGD with momentum. Memory is measured twice: what PyTorch's
allocator gave out during the step, and what a process of its own held at most.
"""

import argparse
import contextlib
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import normlab
from benchmarks import gate, memory
from benchmarks.bench_norms import options
from benchmarks.bounds import move_only_
from benchmarks.interleaved import interleaved
from benchmarks.machine import ROOT
from benchmarks.networks import NETWORKS, loss
from benchmarks.runs import Writer

BATCH, SIDE = 32, 64
SECONDS = {False: 60.0, True: 4.0}
VARIANTS = ("stock", "accelerated", "lean")
# what PyTorch's profiler calls norms, ReLU in place and the add before it; the optimizer is not among what is profiled
OF_NORMS = (
    "aten::native_batch_norm", "aten::native_batch_norm_backward", "aten::clamp_min_", "aten::threshold_backward",
    "aten::add_",
)  # fmt: skip
PROFILED = 3  # steps
SAME = 1e-3  # by how much the first loss may differ from that of the stock network


@dataclass(frozen=True)
class Step:
    """A network with its optimizer and the batch."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    images: Tensor
    labels: Tensor
    lean: bool

    def forward(self) -> Tensor:
        scope: contextlib.AbstractContextManager[Any] = normlab.lean() if self.lean else contextlib.nullcontext()
        with scope:
            return loss(self.model, self.images, self.labels)

    def __call__(self) -> float:
        found = self.forward()
        self.optimizer.zero_grad()
        found.backward()
        self.optimizer.step()
        return found.item()


def main(words: Sequence[str] | None = None) -> None:
    parser = options(__doc__, SECONDS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args(words)
    if chosen.child:
        print(json.dumps(_high_water(*chosen.child)))
        return
    seconds = SECONDS[chosen.quick] if chosen.seconds is None else chosen.seconds
    measure(seconds, gate.after_tests(skip=chosen.without_tests), quick=chosen.quick)


def measure(seconds: float, tests: str, *, quick: bool) -> None:
    """Measures both networks, and writes a row for each."""
    writer = Writer("steps", tests, quick=quick)
    for name in NETWORKS:
        row = figures(name, seconds / len(NETWORKS), least=2 if quick else 5)
        if not quick:
            row["resident"] = {variant: _in_own_process(name, variant) for variant in row["seconds"]}
        writer.row(row)
        print(f"\n{name}\n{'variant':>12} {'step, s':>8} {'kept, MB':>9} {'peak, MB':>9}")
        for variant, (_, median, _) in row["seconds"].items():
            kept, peak = (row["bytes"][variant][what] / 1e6 for what in ("kept", "peak"))
            print(f"{variant:>12} {median:8.3f} {kept:9.0f} {peak:9.0f}", flush=True)
    writer.end()


def figures(name: str, seconds: float, least: int) -> dict[str, Any]:
    """One row: by variant the seconds of a step, its memory, and the loss of the first one; and what bounds it: seconds
    of norms, activations and adds, and of a step in which they only move their bytes."""
    steps = made(NETWORKS[name])
    losses = {variant: step() for variant, step in steps.items()}
    for variant, found in losses.items():
        if abs(found - losses["stock"]) > SAME * abs(losses["stock"]):
            raise SystemExit(
                f"{name}: the first loss is {losses['stock']} stock and {found} {variant}: not the same step."
            )
    bound = made(NETWORKS[name], ("accelerated",))["accelerated"]
    move_only_(bound.model)
    timings, rounds = interleaved({**steps, "bound": bound}, seconds, least=least, warm_up=1)
    needed = {variant: _memory(step) for variant, step in steps.items()}
    return {
        "network": name, "batch": BATCH, "side": SIDE, "rounds": rounds, "losses": losses,
        "seconds": {variant: astuple(timings[variant]) for variant in steps}, "bytes": needed,
        "norms": _norms(steps["stock"]), "bound": astuple(timings["bound"]),
    }  # fmt: skip


def made(build: Callable[[], nn.Module], wanted: Sequence[str] = VARIANTS) -> dict[str, Step]:
    """The variants that are wanted and that this version of the library has; the same weights and the same batch."""
    torch.manual_seed(0)
    model, images, labels = build(), torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(0, 10, (BATCH,))
    missing = {"accelerated": not hasattr(normlab, "accelerate_"), "lean": not hasattr(normlab, "lean")}
    found = {}
    for variant in wanted:
        if missing.get(variant) or (variant == "lean" and missing["accelerated"]):
            print(f"{variant}: this version of normlab cannot do that yet; left out")
            continue
        own = copy.deepcopy(model)
        if variant != "stock":
            normlab.accelerate_(own, images)
        optimizer = torch.optim.SGD(own.parameters(), lr=1e-3, momentum=0.9)
        found[variant] = Step(own, optimizer, images, labels, lean=variant == "lean")
    return found


def _norms(step: Step) -> float:
    """Seconds of a step that are norms, activations and adds."""
    with profile(activities=[ProfilerActivity.CPU]) as noted:
        for _ in range(PROFILED):
            step.optimizer.zero_grad()  # or gradients of weights are added to what is there
            step.forward().backward()
    taken = {event.key: event.self_cpu_time_total for event in noted.key_averages()}
    return sum(taken.get(name, 0.0) for name in OF_NORMS) / 1e6 / PROFILED


def _memory(step: Step) -> dict[str, int]:
    """Bytes beyond weights, their gradients, optimizer and batch: when the forward has returned, and at most."""
    step.optimizer.zero_grad(set_to_none=False)  # the gradients of the weights are there before, and stay
    kept = memory.allocated(step.forward).kept
    return {"kept": kept, "peak": memory.allocated(lambda: step.forward().backward()).peak}


def _in_own_process(name: str, variant: str) -> int | None:
    """How many bytes more than before its first step a new process holds at most during a step; None if unknown."""
    command = [sys.executable, "-m", "benchmarks.bench_steps", "--child", name, variant]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - fixed words
    found: int | None = json.loads(done.stdout.splitlines()[-1])
    return found


def _high_water(name: str, variant: str) -> int | None:
    step = made(NETWORKS[name], (variant,))[variant]
    memory.give_back()
    before = memory.resident()
    step()  # compiles kernels, which takes memory too
    if not memory.forget_high_water():
        return None
    step()
    return memory.high_water() - before


if __name__ == "__main__":
    main()
