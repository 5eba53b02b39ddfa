"""`normlab diff`: two runs held against each other."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab.lab import config
from normlab.lab.contrast import Contrast


def show_contrast(found: Contrast, console: Console) -> None:
    """Prints what differs, and one sentence on the results."""
    rows = [
        *[("setting", key, *values) for key, values in found.settings.items()],
        *[("environment", key, *values) for key, values in found.environment.items()],
    ]
    if rows:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for title in ("", "", "first", "second"):
            table.add_column(title, overflow="fold")
        for kind, key, before, after in rows:
            table.add_row(Text(kind, style="dim"), key, Text(config.plain(before)), Text(config.plain(after)))
        console.print(table)
    else:
        console.print("Settings and environment are the same.")
    names = [_ending(found, index) for index in (0, 1)]
    console.print(f"test {found.metric.name}: {names[0]} and {names[1]}.", markup=False, highlight=False)
    console.print(_numbers(found), markup=False, highlight=False)


def contrast_json(found: Contrast) -> dict[str, Any]:
    """The same as an object."""
    return {
        "settings": found.settings,
        "environment": found.environment,
        "metric": found.metric.name,
        "values": found.values,
        "states": found.states,
        "identical": found.identical,
        "text": _numbers(found),
    }


def _ending(found: Contrast, index: int) -> str:
    value = found.values[index]
    return found.states[index] if value is None else found.metric.text(value)


def _numbers(found: Contrast) -> str:
    """Whether the records are the same; the environment has been said."""
    return found.numbers.text().partition(" The environment differs")[0]
