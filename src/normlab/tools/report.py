"""What a tool did to a model: every layer that it touched, and every one that it passed over and why."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Touched:
    """A layer that was changed, how, and by how much that moved the output where it was measured."""

    name: str
    layer: str
    change: str
    error: float | None = None


@dataclass(frozen=True)
class Skipped:
    """A layer that was left as it was, and why. `same`: it is already as it was wanted."""

    name: str
    layer: str
    reason: str
    same: bool = False


@dataclass(frozen=True)
class Report:
    """What one call of a tool did.

    `done` finishes the sentence "3 of 4 layers …". `error` is the largest difference that was measured on an
    example, relative to the largest value of the output; None where nothing is measured.
    """

    done: str
    touched: tuple[Touched, ...]
    skipped: tuple[Skipped, ...] = ()
    error: float | None = None
    layers: str = "norm layer"

    def title(self) -> str:
        """The counts, and the largest error.

        Example:
            >>> Report("folded", (Touched("1", "BatchNorm2d(8)", "into 0"),), error=2e-7).title()
            '1 of 1 norm layer folded, largest relative error 2.0e-07'
        """
        count = len(self.touched) + len(self.skipped)
        same = sum(each.same for each in self.skipped)
        words = [f"{len(self.touched)} of {count} {self.layers}{'' if count == 1 else 's'} {self.done}"]
        words += [f"{same} already so"] if same else []
        words += [] if self.error is None else [f"largest relative error {self.error:.1e}"]
        return ", ".join(words)

    def table(self, width: int | None = None) -> Table:
        """One line a layer, for a terminal, or for so many columns; `title()` goes above it."""
        measured = any(each.error is not None for each in self.touched)
        headings = ("name", "layer", "what was done", *(["error"] if measured else []))
        rows = [
            (each.name or "the model", each.layer, each.change, "" if each.error is None else f"{each.error:.1e}")
            for each in self.touched
        ]
        rows += [(each.name or "the model", each.layer, f"kept: {each.reason}", "") for each in self.skipped]
        widths = _widths([headings, *rows], width or _terminal())
        table = Table(box=SIMPLE)
        for heading, most in zip(headings, widths, strict=False):
            table.add_column(heading, justify="right" if heading == "error" else "left", overflow="fold", width=most)
        for number, row in enumerate(rows):
            cells = [Text(_broken(text, most)) for text, most in zip(row, widths, strict=False)]
            table.add_row(*cells[: len(headings)], style="" if number < len(self.touched) else "dim")
        return table

    def __str__(self) -> str:
        """Title and table as text, as wide as the terminal, so that `print(report)` shows them."""
        if not self.touched and not self.skipped:
            return self.title()
        console = Console(width=_terminal(), color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self.table())
        lines = captured.get().strip("\n").splitlines()
        return "\n".join((self.title(), *(line.rstrip() for line in lines)))


def _terminal() -> int:
    """Its columns; 120 where there is none, as in a file. Fewer than 40 leave no room for a table."""
    return max(40, shutil.get_terminal_size((120, 24)).columns)


def _widths(rows: Sequence[Sequence[str]], total: int) -> list[int]:
    """Of each column: names and layers have theirs up to a third each, the words what is left."""
    name, layer, words, *error = ([len(row[column]) for row in rows if len(row) > column] for column in range(4))
    errors = max(error[0], default=0) if len(rows[0]) > 3 else 0
    # rich sets one space at both sides of each column, and one between two and at the edges
    room = total - 3 * len(rows[0]) - 1 - errors
    first, second = (min(max(each), max(room // 3, 8)) for each in (name, layer))
    return [first, second, max(min(max(words), room - first - second), 8), errors]


def _broken(text: str, width: int) -> str:
    """The text in lines, broken at spaces, and after the dots of a name that is longer than a line.

    Example:
        >>> _broken("into layer.0.normalization before it", 16)
        'into layer.0.\\nnormalization\\nbefore it'
    """
    lines = [""]
    for word in re.findall(r"\S+\s*", text):
        for part in [word] if len(word.rstrip()) <= width else re.findall(r"[^.]*\.|[^.]+", word):
            if lines[-1] and len((lines[-1] + part).rstrip()) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
