"""Which claims are put to the test, and on which recipes: what `claims.toml` of the folder says."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from normlab import errors
from normlab.lab.claims import CLAIMS
from normlab.lab.claims.claim import Claim
from normlab.lab.config import Frozen
from normlab.lab.recipe import Recipe, with_words
from normlab.lab.recipes import RECIPES

QUICK_SEEDS = "seeds=3"  # `--quick` of a recipe has two, whose intervals reach across nearly everything


class Selection(Frozen):
    """Claims by name, the size of their recipes, changed settings, and when this was begun."""

    schema_version: Literal[1] = 1
    claims: tuple[str, ...]
    quick: bool
    words: tuple[str, ...] = ()
    begun: str

    def command(self) -> str:
        """The command line that does the same.

        Example:
            >>> Selection(claims=tuple(CLAIMS), quick=False, begun="").command()
            'normlab claims --full'
        """
        names = () if self.claims == tuple(CLAIMS) else self.claims
        return shlex.join(["normlab", "claims", *names, *self.words, "--quick" if self.quick else "--full"])


def select(names: Sequence[str], words: Sequence[str], quick: bool) -> Selection:
    """The claims of these names, or all of them, in the order given.

    Args:
        names: of claims; none stands for all.
        words: `key=value` settings that every recipe gets.
        quick: the recipes as `--quick` makes them, with three seeds.

    Raises:
        UsageError: a claim does not exist, a setting does not fit a recipe, or leaves a claim without what it needs.
    """
    unknown = [name for name in names if name not in CLAIMS]
    if unknown:
        problems = [
            errors.Problem(f"there is no claim `{name}`.", fix=errors.did_you_mean(name, CLAIMS)) for name in unknown
        ]
        raise errors.UsageError(errors.message("claims", *problems))
    chosen = Selection(
        claims=tuple(dict.fromkeys(names)) or tuple(CLAIMS),
        quick=quick,
        words=tuple(words),
        begun=f"{datetime.now():%Y-%m-%d %H:%M}",
    )
    needed = recipes(chosen)
    misfits = {claim.name: claim.misfit(needed[claim.recipe]) for claim in selected(chosen)}
    problems = [
        errors.Problem(f"{name} cannot be judged: {why}.", got=" ".join(words), fix="leave that setting out.")
        for name, why in misfits.items()
        if why
    ]
    if problems:
        raise errors.UsageError(errors.message("claims", *problems))
    return chosen


def selected(selection: Selection) -> tuple[Claim, ...]:
    """The claims themselves.

    Raises:
        RecordError: one of them is of another version of normlab.
    """
    gone = [name for name in selection.claims if name not in CLAIMS]
    if gone:
        problem = errors.Problem(
            f"there is no claim `{gone[0]}`.", fix="use the version of normlab that made this folder."
        )
        raise errors.RecordError(errors.message("claims.toml", problem))
    return tuple(CLAIMS[name] for name in selection.claims)


def recipes(selection: Selection) -> dict[str, Recipe]:
    """The recipes that the claims need, each once, with quick or full size and the changed settings.

    Raises:
        UsageError: a setting does not fit a recipe.
    """
    return {name: _changed(name, selection) for name in dict.fromkeys(claim.recipe for claim in selected(selection))}


def _changed(name: str, selection: Selection) -> Recipe:
    recipe = RECIPES[name]
    size = (*recipe.quick, QUICK_SEEDS) if selection.quick else ()
    try:
        return with_words(recipe, [*size, *selection.words])
    except errors.UsageError as error:
        raise errors.UsageError(f"{error}\n  in: the recipe {name}, which these claims need") from None
