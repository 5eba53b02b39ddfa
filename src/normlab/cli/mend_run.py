"""A tool on the user's network: made, filled with weights, changed, written, and said."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from normlab import errors
from normlab.cli.as_json import print_json
from normlab.cli.mend_batches import Batches
from normlab.lab.own import called, own_function, raised, seeded
from normlab.tools.load_weights import load_weights_
from normlab.tools.report import Report
from normlab.tools.weights import LOAD, read_weights, write_weights


@dataclass(frozen=True)
class Job:
    """What the user asks for."""

    command: str
    factory: str
    weights: Path | None
    data: str
    out: Path | None
    force: bool
    as_json: bool


def mended(
    job: Job, tool: Callable[[nn.Module, Batches], Report], load: Callable[[Report], str] | None = None, then: str = ""
) -> None:
    """Carries out a job.

    Args:
        job: what is asked for.
        tool: changes the network.
        load: after which call the written weights are to be loaded, where the network has become another one. If
            nothing was changed they are written as they came, and no call is needed.
        then: what else is to be known.

    Raises:
        UsageError: the words of the job do not fit, or the user's code raises.
        NormlabError: weights cannot be read or written, or do not fit, or the tool refuses.
    """
    _check_out(job)
    model, notes, metadata = _filled(job)
    report = _changed(job, model, tool)
    after = f"after {load(report)}" if load and report.touched else ""
    if job.out is not None:
        before = metadata.get(LOAD, "")
        write_weights(job.out, model, metadata | {LOAD: " and ".join(filter(None, (before, after)))})
    if job.as_json:
        print_json(_as_json(job, report, notes, after or then))
        return
    console = Console(highlight=False)
    console.print(report.title(), markup=False)
    if report.touched or report.skipped:
        console.print(report.table(console.width))
    lines = [("note", note) for note in notes]
    lines += [] if report.touched else [("note", "nothing was changed")]
    if job.out:
        lines += [("wrote", str(job.out)), *([("load", f"them {after}")] if after else [])]
    elif not then:
        lines += [("wrote", "nothing: --out FILE.safetensors keeps the result")]
    lines += [("then", then)] if then else []
    for heading, text in lines:
        console.print(f"{heading:<7}{text}", markup=False, soft_wrap=True)


def first(batches: Batches) -> Any:
    """What the network is called with for the first of the batches: of a pair the first, as labels are the second.

    Raises:
        UsageError: there is no batch.
    """
    batch = next(iter(batches))
    while isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    return batch


def said(tool: str, *arguments: str, **named: Any) -> str:
    """The call of a tool as it is written in Python; what is None is left out.

    Example:
        >>> said("swap_", "'group'", groups=4, where=None)
        "`normlab.tools.swap_(model, 'group', groups=4)`"
    """
    words = [f"{name}={value!r}" for name, value in named.items() if value is not None]
    return f"`normlab.tools.{tool}({', '.join(['model', *arguments, *words])})`"


def _check_out(job: Job) -> None:
    out, problems = job.out, []
    if out is not None and out.is_dir():
        fix = f"write {out / 'out.safetensors'}."
        problems.append(errors.Problem("--out is a file, not a folder.", got=str(out), fix=fix))
    elif out is not None and out.suffix != ".safetensors":
        problems.append(errors.Problem("--out is a .safetensors.", got=str(out), fix=f"write {out.stem}.safetensors."))
    elif out is not None and not out.parent.is_dir():
        problems.append(errors.Problem("the folder of --out must exist.", got=str(out.parent)))
    elif out is not None and out.exists() and not job.force:
        problems.append(errors.Problem(f"{out} exists.", fix="choose another name, or replace it with --force."))
    if problems:
        raise errors.UsageError(errors.message(job.command, *problems))


def _filled(job: Job) -> tuple[nn.Module, tuple[str, ...], dict[str, str]]:
    """The network with its weights, what had to be done for them, and what their file says of itself."""
    function = own_function(job.factory, job.command)
    weights = None if job.weights is None else read_weights(job.weights)
    with seeded(0):
        model = function if isinstance(function, nn.Module) else called(job.factory)
    if not isinstance(model, nn.Module):
        problem = errors.Problem("the function must return a torch.nn.Module.", got=type(model).__name__)
        raise errors.UsageError(errors.message(job.factory, problem))
    if weights is None:
        return model, (), {}
    notes = (*weights.notes, *load_weights_(model, weights, str(job.weights)))
    if weights.metadata.get(LOAD):
        notes = (*notes, f"the file is to be loaded {weights.metadata[LOAD]}: {job.factory} must do so")
    return model, notes, weights.metadata


def _changed(job: Job, model: nn.Module, tool: Callable[[nn.Module, Batches], Report]) -> Report:
    batches = Batches(job.data, job.command)
    try:
        return tool(model, batches)
    except errors.NormlabError:
        raise
    except Exception as error:  # what the network makes of the data
        found = raised(job.factory, error)
        problem = errors.Problem(f"the network fails on the data: {found.rule}", got=found.got)
        raise errors.UsageError(errors.message(job.factory, problem)) from error


def _as_json(job: Job, report: Report, notes: tuple[str, ...], then: str) -> Mapping[str, Any]:
    return {
        "command": job.command,
        "done": report.done,
        "touched": [asdict(each) | {"error": _finite(each.error)} for each in report.touched],
        "skipped": [asdict(each) for each in report.skipped],
        "error": _finite(report.error),
        "notes": list(notes),
        "out": None if job.out is None else str(job.out),
        "then": then,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
