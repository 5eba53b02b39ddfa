"""`normlab backends`: what would compute a norm, for which shape and why."""

from dataclasses import dataclass
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab import errors
from normlab.kernels.activation import ACTIVATIONS, After
from normlab.kernels.cpu import compiled, team
from normlab.kernels.pick import Op, explained
from normlab.kernels.pick import chosen as chosen_backend

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPS: tuple[Op, ...] = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
GROUPS = 32  # where nothing else is said, as many as there are usually
# Of networks that everybody knows: what their norms get, small and large.
TYPICAL: tuple[tuple[Op, tuple[int, ...]], ...] = (
    ("batch_norm", (64, 64)),
    ("batch_norm", (32, 64, 14, 14)),
    ("batch_norm", (32, 256, 56, 56)),
    ("layer_norm", (64, 768)),
    ("layer_norm", (32, 197, 768)),
    ("group_norm", (8, 320, 64, 64)),
    ("instance_norm", (8, 64, 64, 64)),
    ("rms_norm", (4, 512, 2048)),
)
MEANING = {"fused": "our kernel", "stock": "PyTorch", "registered": "our formula", "formula": "our formula"}


@dataclass(frozen=True)
class Row:
    """One norm of one shape."""

    op: str
    shape: tuple[int, ...]
    backend: str
    reason: str


def rows(
    op: str | None, shape: tuple[int, ...] | None, dtype: str, channels_last: bool, activation: str, groups: int
) -> list[Row]:
    """What the norm of one shape gets, or those of the typical shapes.

    Raises:
        UsageError: there is no such norm, dtype or activation, or the shape does not fit.
    """
    problems = [
        errors.Problem(f"`{name}` must be one of {', '.join(known)}.", repr(value), errors.did_you_mean(value, known))
        for name, value, known in (("--dtype", dtype, DTYPES), ("--activation", activation, ACTIVATIONS))
        if value not in known
    ]
    if op is not None and op not in OPS:
        rule = f"the norm must be one of {', '.join(OPS)}."
        problems.append(errors.Problem(rule, repr(op), errors.did_you_mean(op, OPS)))
    if shape is not None and (len(shape) < 2 or min(shape) < 1):
        problems.append(
            errors.Problem("a shape has two sizes or more, none below 1.", str(shape), "--shape 32,64,56,56.")
        )
    if channels_last and shape is not None and len(shape) != 4:
        rule = "channels last is a layout of four dimensions."
        problems.append(errors.Problem(rule, str(shape), "leave out --channels-last."))
    if problems:
        raise errors.UsageError(errors.message("backends", *problems))
    wanted = [(each, size) for each, size in TYPICAL if op in (None, each)]
    if shape is not None:
        wanted = [(each, shape) for each in OPS if op in (None, each)]
    after = After(activation)  # type: ignore[arg-type]
    return [_row(each, size, DTYPES[dtype], channels_last, after, groups) for each, size in wanted]


def _row(op: Op, shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool, after: After, groups: int) -> Row:
    last = channels_last and len(shape) == 4
    x = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last if last else torch.contiguous_format)
    of_op = {"group_norm": groups, "instance_norm": shape[1]}.get(op, 1)
    backend, reason = explained(op, x, of_op, after if op == "batch_norm" else After())
    return Row(op, shape, backend, reason)


def facts() -> dict[str, Any]:
    """What holds for every shape."""
    return {
        "backend": chosen_backend(),
        "threads": team.size(),
        "threads of": "PyTorch (OpenMP)" if team.openmp().parallel else "this process: PyTorch has no OpenMP here",
        "kernels kept in": str(compiled.folder()),
        "kernels there": len(list(compiled.folder().glob("*.o"))),
    }


def show_backends(found: list[Row], console: Console) -> None:
    """Prints the facts, then one line a shape."""
    known = facts()
    for name, value in known.items():
        console.print(Text.assemble((f"{name:16}", "dim"), str(value)), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("norm", "shape", "computed by", "why"):
        table.add_column(title, no_wrap=title != "why")
    for row in found:
        style = "bold" if row.backend == "fused" else ""
        shape = " × ".join(map(str, row.shape))
        table.add_row(row.op, shape, Text(MEANING[row.backend], style=style), Text(row.reason, style="dim"))
    console.print(table)
