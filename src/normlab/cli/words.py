"""From the words of the command line to a recipe."""

from collections import Counter
from dataclasses import dataclass

from normlab import errors, lab
from normlab.lab.config import RunConfig
from normlab.lab.data.forms import is_own
from normlab.lab.recipes import DEFAULT
from normlab.lab.recipes.own import own_recipe, with_own_network


@dataclass(frozen=True)
class Own:
    """What the user gives of their own, each `FILE.py:FUNCTION` or `MODULE:FUNCTION`, empty for nothing."""

    model: str = ""
    data: str = ""
    loss: str = ""
    metric: str = ""
    goal: str = ""

    def words(self) -> list[str]:
        """The settings that the options stand for; that of the network is a recipe of its own."""
        options = {"data": self.data, "loss": self.loss, "metric": self.metric, "goal": self.goal}
        return [f"{key}={value}" for key, value in options.items() if value]

    def options(self) -> list[str]:
        """As they were written on the command line."""
        return [f"--{name} {value}" for name, value in vars(self).items() if value]


def recipe_of(words: list[str], quick: bool, own: Own) -> lab.Recipe:
    """The recipe that the words name, with its settings and what is the user's own.

    Raises:
        UsageError: a word is out of place, or names nothing that there is.
    """
    named = [word for word in words if "=" not in word]
    settings = [word for word in words if "=" in word]
    if len(named) > 1 or (named and words[0] != named[0]):
        problem = errors.Problem(
            "one recipe comes first, then settings as key=value.", got=" ".join(words), fix=_order(named, settings)
        )
        raise errors.UsageError(errors.message("compare", problem))
    given = Counter(word.partition("=")[0] for word in [*own.words(), *settings])
    twice = [key for key, times in given.items() if times > 1]
    if twice:
        problems = [errors.Problem(f"`{key}` is given twice.", fix=f"write {key}=VALUE,VALUE.") for key in twice]
        raise errors.UsageError(errors.message("compare", *problems))
    recipe = lab.recipe_named(named[0] if named else DEFAULT)
    if own.model:
        recipe = with_own_network(recipe, own.model) if named else own_recipe(own.model)
    if is_own(own.data):  # so many samples are right for the data of the recipe
        recipe = recipe.model_copy(update={"base": recipe.base.model_copy(update={"train_samples": 0})})
    recipe = lab.with_words(recipe, [*(recipe.quick if quick else ()), *own.words(), *settings])
    if recipe.base.goal != RunConfig().goal and not recipe.base.metric:
        problem = errors.Problem("goal belongs to a metric of yours.", fix="add --metric FILE.py:FUNCTION.")
        raise errors.UsageError(errors.message("compare", problem))
    return recipe


def _order(named: list[str], settings: list[str]) -> str:
    known = [name for name in named if name in lab.RECIPES]
    wrong = [name for name in named if name not in lab.RECIPES]
    if wrong:
        return f"write {wrong[0]}=VALUE, or see `normlab recipes`."
    return f"normlab compare {' '.join([*known[:1], *settings])}"
