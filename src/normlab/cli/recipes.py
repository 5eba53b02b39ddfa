"""`normlab recipes`: what can be run, and every key."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from normlab.lab.config import RunConfig, described, plain, setting
from normlab.lab.recipes import DEFAULT, RECIPES, recipe_named

MOST_VALUES = 6  # more are shown by their ends


def recipes_json(name: str | None = None) -> list[dict[str, Any]]:
    """Every recipe, or the one of that name, whole."""
    chosen = [recipe_named(name)] if name else RECIPES.values()
    return [recipe.model_dump(mode="json") for recipe in chosen]


def show_recipes(console: Console) -> None:
    """Prints the recipes, one line each where the terminal is wide enough, then the keys with their values."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("recipe", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("question", min_width=24)
    table.add_column("source", overflow="fold")
    for recipe in RECIPES.values():
        table.add_row(Text(recipe.name, style="bold"), recipe.takes, recipe.question, Text(recipe.source, style="dim"))
    console.print(table)
    console.print(
        f"Times are on 2 cores; {DEFAULT} is the default. `normlab recipes NAME` shows one whole. `--quick` runs a "
        "shorter form.\nS0 to S4 are the articles that founded this project: docs/recipes.md.\n",
        style="dim",
        markup=False,
        highlight=False,
    )
    known = Table(box=SIMPLE_HEAD, pad_edge=False, title="keys", title_justify="left", title_style="bold")
    for title in ("key", f"in {DEFAULT}", "what it is"):
        known.add_column(title)
    base = RECIPES[DEFAULT].base
    known.add_row("seeds", str(RECIPES[DEFAULT].seeds), "runs of each variant, from `seed` upwards")
    for key, meaning in described(RunConfig):
        if key != "schema_version":
            known.add_row(key, str(setting(base, key)), Text(meaning))
    console.print(known)


def show_recipe(name: str, console: Console) -> None:
    """Prints one recipe: what it varies, what it leaves fixed, and the words of its quick form."""
    recipe = recipe_named(name)
    varies = " ".join(f"{key}={_values(values)}" for key, values in recipe.axes.items())
    lines = (
        (recipe.question, "bold"),
        (f"varies   {varies}", ""),
        (f"seeds    {recipe.seeds}", ""),
        (f"time     {recipe.takes} on 2 cores", ""),
        (f"--quick  {' '.join(recipe.quick)}", ""),
        (f"source   {recipe.source}\n", ""),
    )
    for line, style in lines:
        console.print(Text(line, style=style), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("key", "value", "what it is"):
        table.add_column(title, overflow="fold")
    for key, meaning in described(RunConfig):
        if key != "schema_version" and key not in recipe.axes:
            changed = setting(recipe.base, key) != setting(RunConfig(), key)
            table.add_row(key, Text(plain(setting(recipe.base, key)), style="bold" if changed else ""), Text(meaning))
    console.print(table)


def _values(values: tuple[object, ...]) -> str:
    if len(values) <= MOST_VALUES:
        return ",".join(map(str, values))
    return f"{values[0]}…{values[-1]} ({len(values)} values)"
