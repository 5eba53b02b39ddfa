"""`normlab recipes`: what can be run, and every key."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab.lab.config import RunConfig, described, setting
from normlab.lab.recipes import DEFAULT, RECIPES

MOST_VALUES = 6  # more are shown by their ends


def recipes_json() -> list[dict[str, Any]]:
    """Every recipe, whole."""
    return [recipe.model_dump(mode="json") for recipe in RECIPES.values()]


def show_recipes(console: Console) -> None:
    """Prints the recipes, then the keys with the values each recipe gives them."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for recipe in RECIPES.values():
        varies = " ".join(f"{key}={_values(values)}" for key, values in recipe.axes.items())
        table.add_row(Text(recipe.name, style="bold"), recipe.question)
        default = "default; " if recipe.name == DEFAULT else ""
        table.add_row("", Text(f"{default}varies {varies}, {recipe.seeds} seeds; {recipe.takes} on 2 cores"))
        table.add_row("", Text(f"source: {recipe.source}", style="dim"))
        table.add_row()
    console.print(table)
    known = Table(box=SIMPLE_HEAD, pad_edge=False, title="keys", title_justify="left", title_style="bold")
    for title in ("key", f"in {DEFAULT}", "what it is"):
        known.add_column(title)
    base = RECIPES[DEFAULT].base
    known.add_row("seeds", str(RECIPES[DEFAULT].seeds), "runs of each variant, from `seed` upwards")
    for key, meaning in described(RunConfig):
        if key != "schema_version":
            known.add_row(key, str(setting(base, key)), Text(meaning))
    console.print(known)


def _values(values: tuple[object, ...]) -> str:
    if len(values) <= MOST_VALUES:
        return ",".join(map(str, values))
    return f"{values[0]}…{values[-1]} ({len(values)} values)"
