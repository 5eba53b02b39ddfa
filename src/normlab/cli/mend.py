"""`normlab recalibrate`, `freeze`, `fold` and `swap`: what can be said to each; `mend_run` does it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from normlab.cli.as_json import AsJson

if TYPE_CHECKING:
    from normlab.tools.report import Report

Factory = Annotated[
    str,
    typer.Argument(metavar="FILE.py:FUNCTION", help="Returns your network; MODULE:FUNCTION too.", show_default=False),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Its weights, .safetensors or a .pt that needs no code; else those it is made with.",
        show_default=False,
    ),
]
DATA = "Returns batches: a loader or a list of tensors, (x, y) pairs or dictionaries."
Data = Annotated[str, typer.Option(metavar="FILE.py:FUNCTION", help=DATA, show_default=False)]
DataOrNot = Annotated[
    str,
    typer.Option(
        metavar="FILE.py:FUNCTION", help=f"{DATA} The first shows the shapes at each norm.", show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The .safetensors to write; without it nothing is written.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Only these: a name, all within it, or a pattern; again for more.", show_default=False
    ),
]


def recalibrate(
    factory: Factory,
    data: Data,
    weights: Weights = None,
    out: Out = None,
    method: Annotated[
        Literal["pooled", "average", "ema"],
        typer.Option(help="pooled: of all values; average: over batches; ema: as in training."),
    ] = "pooled",
    order: Annotated[
        Literal["layers", "one_pass"],
        typer.Option(help="layers: exact, a pass for each norm; one_pass: as in training."),
    ] = "layers",
    max_batches: Annotated[int, typer.Option(min=0, help="How many batches to take; 0 is all.")] = 0,
    where: Where = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Set the running statistics of every batch norm from data.

    * `normlab recalibrate my.py:make --weights in.safetensors --data my.py:load --out out.safetensors`
    """
    from normlab.cli.mend_run import Job, mended
    from normlab.tools.recalibrate import recalibrate_

    job = Job("recalibrate", factory, weights, data, out, force, as_json)
    mended(
        job,
        lambda model, batches: recalibrate_(
            model, batches, method, order=order, max_batches=max_batches or None, where=where or None,
            progress=sys.stderr.isatty(),
        ),
    )  # fmt: skip


def freeze(
    factory: Factory,
    weights: Weights = None,
    out: Out = None,
    where: Where = None,
    affine: Annotated[
        Literal["keep", "frozen", "trainable"], typer.Option(help="What becomes of weight and bias.")
    ] = "keep",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Say which norms `freeze_` would keep in evaluation, and which not and why.

    Freezing changes the model and no weight, so that `--out` has the weights as they came: freeze after loading.

    * `normlab freeze my.py:make --weights in.safetensors --where backbone`
    """
    from normlab.cli.mend_run import Job, mended, said
    from normlab.tools.freeze import freeze_

    call = said("freeze_", where=where or None, affine=None if affine == "keep" else affine)
    mended(
        Job("freeze", factory, weights, "", out, force, as_json),
        lambda model, batches: freeze_(model, where or None, affine),
        then=f"freezing changes no weight: call {call} when they are loaded",
    )


def fold(
    factory: Factory,
    data: Data,
    weights: Weights = None,
    out: Out = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest relative error of an output.")] = 1e-4,
    border: Annotated[
        Literal["refuse", "pad"],
        typer.Option(help="A norm before a convolution that pads with zeros: keep it, or pad its input to fit."),
    ] = "refuse",
    where: Where = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Take norms with running statistics into the linear and convolution layers beside them, for use in evaluation.

    The first batch shows which layers follow one another, and what the error is. If nothing is folded, `--out` has the
    weights as they came.

    * `normlab fold my.py:make --weights in.safetensors --data my.py:load --out out.safetensors`
    """
    from normlab.cli.mend_run import Job, first, mended, said
    from normlab.tools.fold import fold_

    def call(report: "Report") -> str:
        # which norms can be folded depends on their values: a new model is told, and is not judged by its own
        names = [each.name for each in report.touched]
        told = [f"where={names}", *([f"border={border!r}"] if border != "refuse" else []), "tolerance=float('inf')"]
        return said("fold_", "example", *told)

    mended(
        Job("fold", factory, weights, data, out, force, as_json),
        lambda model, batches: fold_(model, first(batches), where=where or None, tolerance=tolerance, border=border),
        load=call,
    )


def swap(
    factory: Factory,
    to: Annotated[
        Literal["none", "batch", "layer", "group", "instance", "rms"],
        typer.Option(help="The kind of the new ones.", show_default=False),
    ],
    weights: Weights = None,
    data: DataOrNot = "",
    out: Out = None,
    groups: Annotated[int, typer.Option(min=1, help="Groups of group norm.")] = 8,
    eps: Annotated[float, typer.Option(min=0, help="Added to the variance.")] = 1e-5,
    momentum: Annotated[float, typer.Option(min=0, max=1, help="Weight of the new batch in running statistics.")] = 0.1,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Replace every norm by one of another kind; weights are kept where they mean the same.

    If nothing is replaced, `--out` has the weights as they came.

    * `normlab swap my.py:make --to group --weights in.safetensors --data my.py:load --out out.safetensors`
    """
    from normlab.cli.mend_run import Job, first, mended, said
    from normlab.tools.swap import swap_

    example = ["example=example"] if data else []
    mended(
        Job("swap", factory, weights, data, out, force, as_json),
        lambda model, batches: swap_(
            model, to, example=first(batches) if data else None, eps=eps, momentum=momentum, groups=groups
        ),
        load=lambda report: said("swap_", repr(to), *example, eps=eps, momentum=momentum, groups=groups),
    )
