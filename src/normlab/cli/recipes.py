"""`normlab recipes`: what can be run, and every key."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab.lab.config import RunConfig, keys, setting
from normlab.lab.recipes import DEFAULT, RECIPES


def recipes_json() -> list[dict[str, Any]]:
    """Every recipe, whole."""
    return [recipe.model_dump(mode="json") for recipe in RECIPES.values()]


def show_recipes(console: Console) -> None:
    """Prints the recipes, then the keys with the values each recipe gives them."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for recipe in RECIPES.values():
        varies = " ".join(f"{key}={','.join(map(str, values))}" for key, values in recipe.axes.items())
        table.add_row(Text(recipe.name, style="bold"), recipe.question)
        default = "default; " if recipe.name == DEFAULT else ""
        table.add_row("", Text(f"{default}varies {varies}, {recipe.seeds} seeds"))
        table.add_row("", Text(f"source: {recipe.source}", style="dim"))
        table.add_row()
    console.print(table)
    values = Table(box=SIMPLE_HEAD, pad_edge=False, title="keys", title_justify="left", title_style="bold")
    values.add_column("key")
    for name in RECIPES:
        values.add_column(name, justify="right")
    values.add_row("seeds", *(str(recipe.seeds) for recipe in RECIPES.values()))
    for key in keys(RunConfig):
        if key != "schema_version":
            values.add_row(key, *(str(setting(recipe.base, key)) for recipe in RECIPES.values()))
    console.print(values)
