"""What must be known of the user's network and data before their runs begin."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from normlab import errors
from normlab.lab.config import Init, Model, RunConfig
from normlab.lab.data.forms import is_own
from normlab.lab.metric import metric_of
from normlab.lab.recipe import Recipe
from normlab.lab.sweep import sweep_key

if TYPE_CHECKING:
    from normlab.lab.data.dataset import Dataset
    from normlab.tools.report import Report


def prepare(recipe: Recipe) -> tuple[Recipe, dict[str, "Report"]]:
    """The recipe with the task of the user's data in it, and by variant which norms are swapped and which kept.

    Everything of the user's is loaded and tried once, so that what does not fit is said before a run begins. Without
    anything of the user's the recipe comes back as it is.

    Raises:
        UsageError: a function cannot be loaded or raises, the parts do not fit one another, a varied setting has no
            meaning for the network, or a norm cannot stand anywhere in it.
    """
    base = recipe.base
    if not (is_own(base.data) or base.model.factory or base.loss or base.metric):
        return recipe, {}
    if base.model.kind == "own":
        _check_settings(recipe)
    data = _data(base)
    if is_own(base.data):
        recipe = recipe.model_copy(update={"base": base.model_copy(update={"task": data.task})})
    _check_target(recipe)
    from normlab.lab.tried_networks import tried_networks  # torch takes three seconds, and only this needs it here

    return recipe, tried_networks(recipe, data)


def _check_settings(recipe: Recipe) -> None:
    """Raises if a setting that belongs to the lab's own networks is set or varied."""
    model, init = recipe.base.model, recipe.base.init
    plain = {"model": Model(kind="own", factory=model.factory), "init": Init(scheme="own")}
    lost = [f"{part}.{key}" for part, now, usual in (("model", model, plain["model"]), ("init", init, plain["init"]))
            for key in type(now).model_fields if getattr(now, key) != getattr(usual, key)]  # fmt: skip
    lost = [key for key in recipe.axes if key.startswith(("init.", "model."))] or lost
    if lost:
        problem = errors.Problem(
            f"{' and '.join(lost)} {'has' if len(lost) == 1 else 'have'} no meaning for a network of yours, which "
            "comes with its own weights and layers.",
            fix="set or vary norm, batch, optimizer.lr or another setting of the training.",
        )
        raise errors.UsageError(errors.message("compare", problem))


def _check_target(recipe: Recipe) -> None:
    """Raises if a sweep would be judged by a target that is meant for another metric."""
    metric = metric_of(recipe.base)
    if sweep_key(recipe) and not metric.percent and recipe.base.target == RunConfig().target:
        problem = errors.Problem(
            f"a sweep counts the values of {sweep_key(recipe)} at which the test {metric.name} reaches `target`, and "
            f"{recipe.base.target:g} is meant for an accuracy.",
            fix="write target=VALUE.",
        )
        raise errors.UsageError(errors.message("compare", problem))


def _data(base: RunConfig) -> "Dataset":
    from normlab.lab.data import load_data

    data = load_data(base.data, base.data_seed, base.train_samples)
    if is_own(base.data) and load_data(base.data, base.data_seed, base.train_samples).sha256() != data.sha256():
        problem = errors.Problem(
            "the data must be the same each time, as every run loads them.",
            got="other data at the second call",
            fix="seed what draws them: np.random.default_rng(0).",
        )
        raise errors.UsageError(errors.message(base.data, problem))
    return data


def said_of_swaps(reports: Mapping[str, "Report"]) -> list[str]:
    """Which norms were swapped and which kept, in lines for a terminal."""
    if not reports:
        return []
    from normlab.lab.said_of_swaps import said_of_swaps as said

    return said(reports)
