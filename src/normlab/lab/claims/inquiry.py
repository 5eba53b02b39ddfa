"""A folder of claims: `claims.toml`, and in it one comparison for each recipe that the claims need."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from normlab import errors
from normlab.lab.claims.judge import Judgement, judge
from normlab.lab.claims.selection import Selection, recipes, selected
from normlab.lab.compare import create
from normlab.lab.load import Results
from normlab.lab.prepare import prepare
from normlab.lab.read import read_config
from normlab.lab.recipe import Recipe
from normlab.lab.record import RECIPE, new_folder

SELECTION = "claims.toml"


@dataclass(frozen=True)
class Inquiry:
    """Claims and what the records say of them: all that is printed and drawn."""

    folder: Path
    selection: Selection
    comparisons: Mapping[str, Results]  # by recipe
    judgements: tuple[Judgement, ...]


def begin(selection: Selection, out: Path | str = "runs") -> Path:
    """Makes the folder, with the comparisons in it and nothing run yet.

    Args:
        selection: what `select` chose.
        out: parent of the new folder, made if missing.

    Raises:
        RecordError: the folder cannot be made.
        UsageError: the user's own data or network does not fit.
    """
    needed = {name: prepare(recipe)[0] for name, recipe in recipes(selection).items()}
    folder = new_folder(Path(out), "claims", SELECTION, selection.to_toml())
    for recipe in needed.values():
        create(recipe, folder)
    return folder


def opened(folder: Path) -> tuple[Selection, dict[str, Path]]:
    """What the folder is about, and the comparison of each recipe; one that is missing is made.

    Raises:
        RecordError: the folder is not one of claims, or a file in it is damaged.
    """
    if not (folder / SELECTION).exists():
        problem = errors.Problem(f"{SELECTION} is missing.", fix="give a folder that `normlab claims` wrote.")
        raise errors.RecordError(errors.message(str(folder), problem))
    selection = read_config(folder / SELECTION, Selection)
    there = {read_config(path, Recipe).name: path.parent for path in sorted(folder.glob(f"*/{RECIPE}"), reverse=True)}
    places = {}
    for name, recipe in recipes(selection).items():
        places[name] = there[name] if name in there else create(prepare(recipe)[0], folder)
    return selection, places


def judged(folder: Path, selection: Selection, comparisons: Mapping[str, Results]) -> Inquiry:
    """Every claim judged by the records of its recipe."""
    judgements = tuple(judge(claim, comparisons[claim.recipe]) for claim in selected(selection))
    return Inquiry(folder, selection, comparisons, judgements)
