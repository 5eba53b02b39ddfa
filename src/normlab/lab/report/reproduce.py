"""How to get the same numbers again."""

import shlex
from typing import Any

from normlab import errors
from normlab.lab import config
from normlab.lab.config import RunConfig
from normlab.lab.load import Results
from normlab.lab.recipe import Recipe, planned_runs, with_words
from normlab.lab.recipes import DEFAULT, RECIPES
from normlab.lab.recipes.own import own_recipe
from normlab.lab.report import html
from normlab.lab.report.recorded import environment

# settings that no word says: the data tell their task, torchrun the number of processes
FOUND = ("task", "processes")


def command(recipe: Recipe) -> str | None:
    """The command that runs this recipe; None if no command line can say it.

    Example:
        >>> command(with_words(RECIPES["deep-tanh"], ["seeds=3", "norm=batch,group", "optimizer.lr=0.5"]))
        'normlab compare deep-tanh norm=batch,group optimizer.lr=0.5 seeds=3'
    """
    theirs = recipe.name == "own" and recipe.base.model.kind == "own"
    known = own_recipe(recipe.base.model.factory) if theirs else RECIPES.get(recipe.name, RECIPES[DEFAULT])
    words = _words(known, recipe)
    try:
        again = planned_runs(with_words(known, words))
    except errors.UsageError:
        return None
    if {_identity(run.config) for run in again} != {_identity(run.config) for run in planned_runs(recipe)}:
        return None
    processes = recipe.base.processes
    program = ["torchrun", "--nproc-per-node", str(processes), "-m"] if processes > 1 else []
    begin = ["--model", known.base.model.factory] if theirs else [known.name]
    return " ".join([*program, "normlab", "compare", *map(shlex.quote, [*begin, *words])])


def _words(known: Recipe, recipe: Recipe) -> list[str]:
    """What must be said to get from the known recipe to this one."""
    words = [
        f"{key}={','.join(map(config.plain, values))}"
        for key, values in recipe.axes.items()
        if values != known.axes.get(key)
    ]
    for key in config.keys(RunConfig):
        if key in FOUND:
            continue
        value = config.setting(recipe.base, key)
        if key not in recipe.axes and (key in known.axes or value != config.setting(known.base, key)):
            words.append(f"{key}={config.plain(value)}")
    return words if recipe.seeds == known.seeds else [*words, f"seeds={recipe.seeds}"]


def _identity(run: RunConfig) -> str:
    return run.model_dump_json(exclude=set(FOUND))


def reproduce(results: Results) -> str:
    """The command, what it was run on, and the recipe."""
    said = command(results.recipe)
    if said is None:
        how = (
            "<p>No single command makes these runs. Each of their folders holds a <code>config.toml</code>, the only "
            "input that a run needs.</p>"
        )
    else:
        how = f"<pre><code>{html.text(said)}</code></pre>"
    return (
        f"{how}<p>On the same kind of processor, with the same versions and number of threads, the records are equal "
        "bit for bit, times aside."
        f"</p><h3>Made on</h3>{_environments(results)}"
        f"<details><summary>Recipe, as TOML</summary><pre><code>{html.text(results.recipe.to_toml())}</code></pre>"
        f"</details>"
    )


def _environments(results: Results) -> str:
    """A row a fact; where runs were made on different machines, every value."""
    seen: dict[str, dict[str, None]] = {}
    for run in results.runs:
        for key, value in _flat(environment(run)).items():
            seen.setdefault(key, {})[value] = None
    if not seen:
        return "<p>No run has begun, so nothing is known about the machine.</p>"
    rows = [[html.text(key.replace("_", " ")), " · ".join(map(html.text, values))] for key, values in seen.items()]
    return html.table(["Fact", "Value"], rows, "settings")


def _flat(facts: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            found |= _flat(value)
        else:
            found[key] = "unknown" if value is None else config.plain(value)
    return found
