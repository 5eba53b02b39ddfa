"""How an explanation looks in a terminal of any width."""

import math
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from normlab import reference
from normlab.cli.explanation import MOMENTUM, RUNNING_BATCHES, Array, Explanation

MOST_ROWS = 16
CELL = 8  # characters of the longest number, -1.2e-05 or -99.9999
VALUE, GRADIENT = "cyan", "magenta"
LETTERS = ("n", "g", "c", "s")
SYMBOLS = ("N", "G", "C/G", "S")
MEANING = {"n": "sample", "g": "group", "c": "channel", "s": "position"}


def render(explained: Explanation, console: Console) -> None:
    """Prints the whole walk: what goes in, each step, and how well three gradients agree.

    Args:
        explained: What `explanation` returned.
        console: Where to; its width decides how many sets are shown.
    """
    _header(explained, console)
    view = explained.walk.view
    console.print(Text("Input and the gradient that comes from above", style="bold"))
    console.print(_pair(view, "x", explained.x, "dy", explained.dy, console.width))
    console.print(_parameters(explained))
    for number, step in enumerate(explained.walk.steps, start=1):
        console.print(Text.assemble((f"{number}  ", "bold"), (step.equation, f"bold {VALUE}")))
        console.print(Text(f"   {step.gradient_equation}", style=GRADIENT))
        console.print(_pair(view, step.name, step.value, f"d{step.name}", step.gradient, console.width))
    console.print(Text(f"   {explained.walk.dx_equation}", style=f"bold {GRADIENT}"))
    console.print()
    for name, gradient in explained.gradients.items():
        ways = {"closed form": gradient.closed, "step graph": gradient.steps, "numeric": gradient.numeric}
        console.print(Text(f"{name}, found in three ways", style="bold"))
        console.print(_side_by_side(ways))
    _agreement(explained, console)
    console.print(Text("Moments of each set, before (x) and after (x_hat)", style="bold"))
    console.print(_moments(explained))


def _header(explained: Explanation, console: Console) -> None:
    view = explained.walk.view
    over = ", ".join(SYMBOLS[axis] for axis in view.axes)
    sets = math.prod(view.set_shape)
    mean = "mean and variance" if view.center else "mean of squares"
    groups = f" in {explained.groups} groups" if explained.groups else ""
    console.rule(Text(f"{explained.op}, forward and backward"))
    rows = [
        ("input", f"x {explained.shape}{groups}, random, seed {explained.seed}, two decimals"),
        ("view", f"(N, G, C/G, S) = {view.shape}"),
        ("sets", f"one {mean} over ({over}): {sets} sets of n = {view.set_size} values"),
        ("mode", _mode(explained)),
        ("eps", f"{explained.eps:g}"),
        ("reading", _legend(view)),
        ("", "the forward pass runs down the steps, the backward pass up; d… is the gradient of Σ dy · y"),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for label, text in rows:
        table.add_row(label, Text(text))
    console.print(table)
    console.print()


def _mode(explained: Explanation) -> str:
    if explained.op != "batch_norm":
        return f"{explained.mode}; there are no running statistics, so training and evaluation compute the same"
    if explained.mode == "train":
        return "train; the moments are those of x"
    return (
        f"eval; running statistics, started at 0 and 1 and updated with {RUNNING_BATCHES} random batches "
        f"at momentum {MOMENTUM:g}, are taken as constants"
    )


def _legend(view: reference.View) -> str:
    used = [letter for letter, size in zip(LETTERS, view.shape, strict=True) if size > 1]
    inside = " (c counts within its group)" if "g" in used and "c" in used else ""
    return f"columns are sets, rows the values in them; {', '.join(f'{u} {MEANING[u]}' for u in used)}{inside}"


def _labels(view: reference.View, axes: Sequence[int]) -> list[str]:
    """A name for each combination of indices along these axes of the view: `c0 s1,0`."""
    shape = [view.shape[axis] for axis in axes]
    named = []
    for index in np.ndindex(*shape):
        parts = [_part(view, axis, at) for axis, at in zip(axes, index, strict=True) if view.shape[axis] > 1]
        named.append(" ".join(parts) or "all")
    return named


def _part(view: reference.View, axis: int, at: int) -> str:
    position = np.unravel_index(at, view.positions) if axis == 3 else (at,)
    return LETTERS[axis] + ",".join(str(i) for i in position)


def _pair(
    view: reference.View, name: str, value: Array, gradient_name: str, gradient: Array | None, width: int
) -> Group:
    """A value and its gradient, one column per set each, as many as fit."""
    kept = [axis for axis in range(4) if axis not in view.axes]
    rows, columns = _labels(view, view.axes), _labels(view, kept)
    left = _columns(view, value)
    right = None if gradient is None else _columns(view, gradient)
    if len(left) == 1:
        rows = ["each set"]
    shown = _sets_that_fit(width - max(len(row) for row in rows[:MOST_ROWS]), columns, (name, gradient_name))

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("", no_wrap=True, style="dim")
    for at in range(shown):
        table.add_column(_heading(name, columns, at), no_wrap=True, justify="right", style=VALUE, min_width=CELL + 1)
    table.add_column("", no_wrap=True, width=2, justify="right")
    for at in range(shown):
        heading = _heading(gradient_name, columns, at)
        table.add_column(heading, no_wrap=True, justify="right", style=GRADIENT, min_width=CELL + 1)
    for at, row in enumerate(rows[:MOST_ROWS]):
        values = [_number(v) for v in left[at, :shown]]
        gradients = ["—"] * shown if right is None else [_number(v) for v in right[at, :shown]]
        table.add_row(row, *values, "│", *gradients)
    return _with_note(table, len(rows) - MOST_ROWS, len(columns) - shown)


def _sets_that_fit(width: int, columns: list[str], names: tuple[str, str]) -> int:
    """How many columns there is room for beside the row labels, each with a space on both sides."""
    cell = max(CELL, *(len(column) for column in columns)) + 2
    longer_names = sum(max(0, len(name) + 2 - cell) for name in names)
    bar = 4
    return min(len(columns), max(1, (width - bar - longer_names) // (2 * cell)))


def _heading(name: str, columns: list[str], at: int) -> Text:
    return Text(f"{name if at == 0 else ''}\n{columns[at]}")


def _columns(view: reference.View, value: Array) -> Array:
    if value.shape == view.set_shape and value.shape != view.x_shape:
        return value.reshape(1, -1)
    return reference.by_set(view, value)


def _with_note(table: Table, rows: int, sets: int) -> Group:
    """The table, what of it was left out, and an empty line."""
    parts = [f"{count} more {word}{'s' * (count > 1)}" for count, word in ((rows, "row"), (sets, "set")) if count > 0]
    note = [Text(f"… {' and '.join(parts)} (everything is in the JSON)", style="dim")] if parts else []
    return Group(table, *note, "")


def _parameters(explained: Explanation) -> Group:
    columns = {"weight": explained.weight}
    if explained.bias is not None:
        columns["bias"] = explained.bias
    return _side_by_side(columns)


def _side_by_side(columns: dict[str, Array]) -> Group:
    """Arrays of one shape, one row per element."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("", no_wrap=True, style="dim")
    for name in columns:
        table.add_column(name, no_wrap=True, justify="right", min_width=CELL + 5)
    first = next(iter(columns.values()))
    for index in list(np.ndindex(first.shape))[:MOST_ROWS]:
        place = Text(f"[{', '.join(str(i) for i in index)}]")
        table.add_row(place, *(_number(float(values[index]), digits=6) for values in columns.values()))
    return _with_note(table, first.size - MOST_ROWS, 0)


def _agreement(explained: Explanation, console: Console) -> None:
    console.print(Text("Largest relative error of a single element", style="bold"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("", no_wrap=True, style="bold")
    for heading in ("closed form\nand steps", "closed form\nand numeric", "steps\nand numeric"):
        table.add_column(heading, no_wrap=True, justify="right", min_width=CELL + 5)
    table.add_column("", width=2)
    table.add_column("\nlargest at", no_wrap=True)
    for name, found in explained.agreement.items():
        figures = (found.closed_vs_steps, found.closed_vs_numeric, found.steps_vs_numeric)
        table.add_row(name, *(f"{figure:.1e}" for figure in figures), "", Text(found.where))
    console.print(Group(table, ""))
    if explained.walk.view.center and explained.walk.view.set_size == 2 and explained.mode == "train":
        note = (
            "With two values in a set x_hat is −1 and 1 whatever x is: dx is nearly 0, and hard to find by differences."
        )
        console.print(Text(note, style="dim"))
        console.print()


def _moments(explained: Explanation) -> Group:
    view = explained.walk.view
    kept = [axis for axis in range(4) if axis not in view.axes]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("set", no_wrap=True, style="dim", min_width=CELL)
    for when, style in (("before", VALUE), ("after", "green")):
        for at, name in enumerate(explained.moments[when]):
            heading = Text(f"{when if at == 0 else ''}\n{name}")
            table.add_column(heading, no_wrap=True, justify="right", style=style, min_width=CELL + 1)
    columns = [m.ravel() for when in ("before", "after") for m in explained.moments[when].values()]
    labels = _labels(view, kept)
    for at, label in enumerate(labels[:MOST_ROWS]):
        table.add_row(label, *(_number(column[at]) for column in columns))
    return _with_note(table, 0, len(labels) - MOST_ROWS)


def _number(value: float, *, digits: int = 4) -> str:
    """Fixed point where that shows enough digits, scientific elsewhere; at most `digits` + 4 characters."""
    if value == 0 or 10 ** (1 - digits) <= abs(value) < 99.99995:
        return f"{value:.{digits}f}"
    return f"{value:.{digits - 3}e}"
