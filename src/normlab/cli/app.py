"""The commands. Each one loads what it needs when it is called, so that `--help` is quick."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from normlab import __version__, errors
from normlab.cli import mend
from normlab.cli.as_json import AsJson, print_json
from normlab.cli.shape import sizes

app = typer.Typer(
    name="normlab",
    help="Normalization for neural networks, done right: compare it, mend it, explain it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def run() -> None:
    """Runs the program; errors that normlab raises on purpose are printed without a traceback."""
    try:
        app()
    except errors.UsageError as error:
        _fail(error, 2)
    except errors.NormlabError as error:
        _fail(error, 1)
    except OSError as error:  # a report or a picture that cannot be written; runs have said so themselves
        problem = errors.Problem(str(error), fix="every finished run is kept: make room, then `normlab report FOLDER`.")
        _fail(RuntimeError(errors.message("normlab", problem)), 1)


def _fail(error: Exception, code: int) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(str(error), style="red", markup=False)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"normlab {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE|KEY=VALUE",
            help="A recipe, then settings; a list makes variants.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the folder of the comparison goes.")] = Path("runs"),
    jobs: Annotated[int, typer.Option(min=0, help="Runs side by side; 0 is one for each core.")] = 0,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Finish this comparison instead of starting one.", show_default=False),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address of a dask scheduler; its workers do the runs.", show_default=False
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Seconds after which a run is given up; 0 is never.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds, values and epochs: a first look.")] = False,
    model: Annotated[
        str,
        typer.Option(metavar="FILE.py:FUNCTION", help="Returns your network, a torch.nn.Module.", show_default=False),
    ] = "",
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="Returns your data, x_train, y_train, x_test, y_test, or two torch datasets; or a name.",
            show_default=False,
        ),
    ] = "",
    loss: Annotated[
        str, typer.Option(metavar="FILE.py:FUNCTION", help="Your loss of (output, y).", show_default=False)
    ] = "",
    metric: Annotated[
        str, typer.Option(metavar="FILE.py:FUNCTION", help="Your metric of (output, y).", show_default=False)
    ] = "",
    goal: Annotated[
        str, typer.Option(help="Whether more of your metric is better: max or min.", show_default=False)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Train the same network with each normalization and say which is best, and how sure that is.

    * `normlab compare` runs the recipe deep-tanh on handwritten digits.

    * `normlab compare bad-init batch=16` is another recipe, with one setting changed.

    * `normlab compare norm=none,batch optimizer.lr=0.05,0.5 seeds=3` makes four variants of three runs.

    * `normlab compare --model my.py:make_model --data my.py:load norm=batch,group,layer seeds=3` compares the norms in
      a network of yours: the function returns it, built with any norm of PyTorch, and the lab swaps them.

    `normlab recipes` lists the recipes and every key.
    """
    from normlab.cli.compare import run_compare
    from normlab.cli.words import Own as OwnParts

    own = OwnParts(model, data, loss, metric, goal)
    raise typer.Exit(run_compare(list(words or []), out, jobs, resume, quick, own, as_json, scheduler, timeout))


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one whole.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes, and every key that can be set with its value in the default recipe."""
    from normlab.cli.recipes import recipes_json, show_recipe, show_recipes

    if as_json:
        print_json(recipes_json(name))
    elif name:
        show_recipe(name, Console())
    else:
        show_recipes(Console())


@app.command()
def claims(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CLAIM|KEY=VALUE",
            help="Claims, by default all, and settings for their recipes; an unknown name lists them.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the folder of the claims goes.")] = Path("runs"),
    jobs: Annotated[int, typer.Option(min=0, help="Runs side by side; 0 is one for each core.")] = 0,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Finish these claims, or judge them again.", show_default=False),
    ] = None,
    quick: Annotated[
        bool | None,
        typer.Option("--quick/--full", help="Small recipes with three seeds (default), or whole.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put claims of the literature to the test: supported, not supported or undecided, by rules written beforehand.

    * `normlab claims` runs every recipe that the claims need, small.

    * `normlab claims bias-is-redundant --full` is one claim on its whole recipe.

    * `normlab claims faster-convergence epochs=30 seeds=5` changes settings of the recipe.
    """
    from normlab.cli.claims import run_claims

    raise typer.Exit(run_claims(list(words or []), out, jobs, resume, quick, as_json))


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="A comparison, or several runs to put side by side.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; by default report.html in the comparison.", show_default=False),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the same charts as PNG into this folder.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the report of recorded runs again; nothing is trained."""
    from normlab.cli.report import run_report

    raise typer.Exit(run_report(runs, out, png, as_json))


@app.command()
def reproduce(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of one run.")],
    as_json: AsJson = False,
) -> None:
    """Run a run again and say whether it is the same, bit for bit; exit code 1 if it is not."""
    from normlab.lab.reproduce import reproduce as again

    found = again(run)
    if as_json:
        print_json({"identical": found.identical, "text": found.text()})
    else:
        Console().print(found.text(), markup=False, highlight=False)
    raise typer.Exit(0 if found.identical else 1)


@app.command()
def ls(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where comparisons lie, or one of them.", show_default=True)
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the comparisons in a folder and how their runs stand, or the runs of one comparison."""
    from normlab.cli.ls import ls_json, run_ls

    if as_json:
        print_json(ls_json(folder))
    else:
        run_ls(folder, Console())


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of one run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of another.")],
    as_json: AsJson = False,
) -> None:
    """Say how two runs differ: settings, environment, results; exit code 1 if their numbers do."""
    from normlab.cli.diff import contrast_json, show_contrast
    from normlab.lab.contrast import contrast

    found = contrast(first, second)
    if as_json:
        print_json(contrast_json(found))
    else:
        show_contrast(found, Console())
    raise typer.Exit(0 if found.identical else 1)


@app.command()
def explain(
    op: Annotated[str, typer.Argument(help="batch_norm, layer_norm, group_norm, instance_norm or rms_norm.")],
    shape: Annotated[
        str | None,
        typer.Option(help="Shape, N,C and then positions; by default a small one that fits.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the numbers.")] = 0,
    mode: Annotated[str, typer.Option(help="train or eval.")] = "train",
    groups: Annotated[int | None, typer.Option(help="Groups of group_norm.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Walk a small array through a normalization, forward and backward, with every number shown."""
    from normlab.cli.explain import explanation, render, to_json

    found = explanation(op, sizes("explain", shape), seed, mode, groups)
    if as_json:
        print_json(to_json(found))
    else:
        render(found, Console())


@app.command()
def backends(
    op: Annotated[
        str | None, typer.Argument(help="batch_norm, layer_norm, group_norm, instance_norm or rms_norm.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Sizes; by default those of well-known networks.", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="In that layout.")] = False,
    activation: Annotated[
        str, typer.Option(help="What follows batch norm: none, relu, leaky_relu, silu, gelu.")
    ] = "none",
    groups: Annotated[int, typer.Option(min=1, help="Groups of group_norm.")] = 32,
    as_json: AsJson = False,
) -> None:
    """Say what would compute a norm on this machine, PyTorch's kernel or ours, for which shape and why."""
    from normlab.cli import backends as view

    found = view.rows(op, sizes("backends", shape), dtype, channels_last, activation, groups)
    if as_json:
        print_json(view.facts() | {"rows": [vars(row) for row in found]})
    else:
        view.show_backends(found, Console())


app.command()(mend.recalibrate)
app.command()(mend.freeze)
app.command()(mend.fold)
app.command()(mend.swap)
