"""What a tool did to a model: every layer that it touched, and every one that it passed over and why."""

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

    def table(self) -> Table:
        """One line a layer, for a terminal."""
        table = Table(box=SIMPLE, title=self.title(), title_style="", title_justify="left")
        measured = any(each.error is not None for each in self.touched)
        for heading in ("name", "layer", "what was done", *(["error"] if measured else [])):
            table.add_column(heading, justify="right" if heading == "error" else "left", overflow="fold")
        for one in self.touched:
            error = [] if not measured else ["" if one.error is None else f"{one.error:.1e}"]
            table.add_row(*map(Text, (one.name or "the model", one.layer, one.change, *error)))
        for each in self.skipped:
            words = (each.name or "the model", each.layer, f"kept: {each.reason}")
            table.add_row(*map(Text, words), *([""] if measured else []), style="dim")
        return table

    def __str__(self) -> str:
        """The table as text, so that `print(report)` shows it."""
        console = Console(width=120, color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self.table() if self.touched or self.skipped else self.title())
        return "\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines())
