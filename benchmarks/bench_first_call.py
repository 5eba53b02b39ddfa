"""What the first call of a kernel takes in a new process, from nothing and with the machine code on disk.

    python -m benchmarks.bench_first_call [--quick]

PyTorch and the library are imported before, and the stock layer has run: what is left is ours. A kernel is called once
forward and once backward, and then once more, which says what of it the first call alone takes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks import gate
from benchmarks.bench_norms import options
from benchmarks.cases import Case
from benchmarks.machine import ROOT
from benchmarks.runs import Writer
from benchmarks.variants import Inputs, calls_of, layers_of

IMAGES, TOKENS = (32, 64, 56, 56), (4, 512, 2048)
CASES = (
    Case("ResNet-50", "batch", IMAGES, after="relu"),
    Case("ResNet-50", "batch", IMAGES, after="relu", layout="channels last"),
    Case("ResNet-50", "batch", IMAGES, after="relu", dtype="bfloat16"),
    Case("ResNet-50", "batch", IMAGES, after="add, relu"),
    Case("Llama-like", "layer", TOKENS),
    Case("Llama-like", "rms", TOKENS),
    Case("diffusion U-Net", "group", (4, 320, 64, 64), groups=32),
)
CACHES = ("NORMLAB_CACHE", "NUMBA_CACHE_DIR")  # where machine code may lie: an empty folder for each case


def main(words: Sequence[str] | None = None) -> None:
    parser = options(__doc__, {})
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(words)
    if chosen.child is not None:
        print(json.dumps(_first_and_second(CASES[chosen.child])))
        return
    measure(gate.after_tests(skip=chosen.without_tests), quick=chosen.quick)


def measure(tests: str, *, quick: bool) -> None:
    """One process with an empty cache for each case, then some that find what it left; a row for each case."""
    writer = Writer("first_call", tests, quick=quick)
    print(f"\n{'first call, s':>60} cold  warm")
    for number, case in enumerate(CASES):
        if quick and number % 2:
            continue
        with tempfile.TemporaryDirectory() as folder:
            surroundings = os.environ | dict.fromkeys(CACHES, folder)
            cold, *warm = [_child(number, surroundings) for _ in range(3 if quick else 4)]
        medians = {key: statistics.median(found[key] for found in warm) for key in cold}
        writer.row({"case": case.to_json(), "processes": len(warm), "cold": cold, "warm": medians})
        print(f"{case.title():>60} {cold['forward']:5.2f} {medians['forward']:5.2f}", flush=True)
    writer.end()


def _child(number: int, surroundings: Mapping[str, str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_first_call", "--child", str(number)]
    done = subprocess.run(command, cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _first_and_second(case: Case) -> dict[str, float]:
    """Seconds of the first forward, of the first backward, and of the second of both."""
    inputs = Inputs.of(case)
    stock, ours = layers_of(case)
    for _ in range(2):
        calls_of(stock, inputs)["both"]()  # the threads and the engine of PyTorch
    taken: dict[str, Any] = {}
    for which in ("", "second "):
        began = time.perf_counter()
        y = ours(*inputs.given)
        between = time.perf_counter()
        torch.autograd.grad(y, inputs.leaves(ours), inputs.dy)
        taken |= {f"{which}forward": between - began, f"{which}backward": time.perf_counter() - between}
    return taken


if __name__ == "__main__":
    main()
