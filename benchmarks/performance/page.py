"""The page: the figures beside their targets, the tables, and how all was measured."""

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.gate import PASSED
from benchmarks.machine import BUSY
from benchmarks.performance import tables, targets
from benchmarks.performance.rows import Measured, grouped
from benchmarks.performance.said import percent
from benchmarks.runs import Run

BENCHMARKS = {"norms": "layers", "steps": "training steps", "first_call": "first calls"}

HEAD = """# Performance

Made by `make performance` from the newest full runs in `benchmarks/results` (quick ones where there is no full one);
`make bench` measures them anew. No figure here was typed. A ratio is the time of the other divided by the time of ours:
above 1 ours is faster.

"""

METHOD = """## How it is measured

- All variants of a case take turns in one process, call by call, in an order that is drawn anew for each round; the
  median is given with what 20 % and 80 % of the calls stayed below. Rounds go on until a budget of time is spent.
- *Forward* is that of a layer in train mode, with what it saves for backward. *Forward + backward* is the same and
  `torch.autograd.grad` for the input, the residual and the parameters, with a random gradient from above. What a call
  returns is dropped inside of the time.
- *Kernel* says whose serves our layer there: small tensors are left to PyTorch's.
- *Eager* is the layer of `torch.nn`, `+ residual`, `torch.nn.functional.relu`; *in place* the same with `add_` and
  `relu(inplace=True)`; *compile* is eager through `torch.compile(dynamic=False)`, for some groups only.
- *oneDNN* is PyTorch's own way to it: `torch.nn.functional.batch_norm` and `relu` on tensors of the layout
  `torch._mkldnn`, which train as well; converting to that layout is not in the time. *oneDNN blocked* is the same where
  a convolution of oneDNN made the tensors, mostly in blocks of 16 channels. In bfloat16 it was far slower than eager
  when tried, and is left out. `torch.ops.mkldnn` has no norms, `onednn::qbatch_norm2d` is for quantized inference:
  PyTorch has no further peer that trains a batch norm on a CPU.
- A *stream* is one full read or write of the tensor: half the time of `copy_` of that tensor into memory that is there,
  in the same run. Batch norm + ReLU needs at least 5 forward and backward (x and y; dy, x and dx), 8 with a residual,
  if each value is read once: a channel has to stay in the cache between statistics and output, or it is 3 more. The
  *memory limit* is the ratio to eager of a kernel that moves no more than that at the speed of `copy_`; *GB/s* is that
  least traffic by our time. Both leave out what fresh memory costs, which `copy_` does not ask for; `clone` does.
  Where the channels are last, a slice of them that stays in the cache is too narrow to be read fast, so that all is
  read twice, in both directions: 3 streams more, which is the limit *of two readings*.
  *Called from Python* is the same and what a layer costs that does nothing, measured among the others: a module, a
  function of autograd that keeps x and returns what it was given, and its backward. Whatever PyTorch calls from Python
  costs that, several times as much between other work as in a loop.
  Tensors under 4 MB have no limit here, as caches hide the memory. A limit below what was reached says that something
  else slowed `copy_` down.
- What bounds a training step is measured among the others: a step whose norms, with the activation and the add after
  them, *only move their bytes*, in PyTorch's operations called as ours are. Forward they copy x, or add the residual;
  backward they add dy and x. What norms take in the stock step is noted by PyTorch's profiler.
- *Peak memory* is what PyTorch's allocator gave out beyond the inputs during forward and backward, as its profiler
  notes it; for a training step beyond weights, their gradients, optimizer and batch. *Kept for backward* is what is
  held when the forward has returned. *Process at most* is the high-water mark of a process of its own during one step,
  less what it held before its first one: the gradients of the weights, the optimizer and oneDNN's workspace are in it.
- In half precision batch norm has its parameters and statistics in float32, as under autocast; other norms have theirs
  in the dtype of the input.
- Of a first call, PyTorch and the library are imported before; machine code starts in an empty folder for each kernel.
- Nothing is measured before the tests of kernels, operations and layers have passed, unless the page says otherwise.
- Accuracy has no figure here: those tests hold every kernel against float64, in every regime.
"""


def page(runs: Mapping[str, Run]) -> str:
    """The whole page in Markdown.

    Args:
        runs: by name of the benchmark; those that never ran to their end are missing.
    """
    norms = [Measured.from_json(row) for row in runs["norms"].rows] if "norms" in runs else []
    steps, first = (runs[name].rows if name in runs else () for name in ("steps", "first_call"))
    parts = [HEAD, *(_made(name, run) for name, run in runs.items()), "\n", _warnings(runs)]
    judged = {  # each is as good as its run
        "norms": targets.of_norms(norms),
        "steps": targets.of_steps(steps),
        "first_call": targets.of_first_calls(first),
    }
    found = [
        replace(figure, provisional=name in runs and bool(doubts(runs[name])))
        for name, figures in judged.items()
        for figure in figures
    ]
    parts += ["## Figures and targets\n\n", tables.figures(found)]
    if norms:
        parts += ["\n![Ratios of every group](performance.svg)\n\n## Layers\n\n"]
        parts += ["Geometric means of the time of eager ÷ ours; the other peers forward + backward.\n\n"]
        parts += [
            tables.overview(norms),
            *(_folded(title, tables.group(rows)) for title, rows in grouped(norms).items()),
        ]
    if steps:
        parts += ["\n## A training step\n\n", _about(steps), tables.steps(steps)]
    if first:
        parts += ["\n## The first call\n\n", tables.first_calls(first)]
    return "".join([*parts, "\n", METHOD])


def _made(name: str, run: Run) -> str:
    where = run.where
    caches = ", ".join(f"{level} {size}" for level, size in where["caches"].items())
    allocator = where["allocator"]
    memory = "the default allocator" if allocator == "default" else f"an allocator set by {', '.join(allocator)}"
    others = "" if run.others is None else f", of which others had {percent(run.others)}"
    kind = "a quick run" if where["quick"] else "a full run"
    return (
        f"- **{BENCHMARKS[name]}**: {run.name}, {kind} of {run.seconds:.0f} s.\n"
        f"  {where['machine']} ({caches}), {where['cores']} cores{others}, {where['threads']} threads, {memory}.\n"
        f"  Python {where['python']}, torch {where['torch']}, numba {where['numba'] or 'none'}, "
        f"normlab {where['normlab']} ({where['commit'] or 'no commit'}).\n"
    )


def _warnings(runs: Mapping[str, Run]) -> str:
    """What the reader must know before any figure."""
    doubted: dict[str, list[str]] = {}
    for name, run in runs.items():
        for doubt in doubts(run):
            doubted.setdefault(doubt, []).append(BENCHMARKS[name])
    said = [f"{doubt}: {', '.join(names)}." for doubt, names in doubted.items()]
    if len({(run.where["commit"], run.where["machine"]) for run in runs.values()}) > 1:
        said.append("The runs are of different commits or machines.")
    return "".join(f"> {line}\n>\n" for line in said).removesuffix(">\n") + ("\n" if said else "")


def doubts(run: Run) -> list[str]:
    """Why its figures are provisional."""
    found = {
        "The tests were not run before": run.where["tests"] != PASSED,
        "Others worked on the machine meanwhile, so that these figures are partly theirs": (run.others or 0) > BUSY,
        "A quick run, of few shapes and few rounds": run.where["quick"],
    }
    return [doubt for doubt, holds in found.items() if holds]


def _folded(title: str, inside: str) -> str:
    return f"\n<details><summary>{title}</summary>\n\n{inside}\n</details>\n"


def _about(rows: tuple[dict[str, object], ...]) -> str:
    row = rows[0]
    return f"{row['batch']} images of {row['side']} × {row['side']}: forward, loss, backward, SGD with momentum.\n\n"
