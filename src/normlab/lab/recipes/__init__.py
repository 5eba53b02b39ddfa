"""The recipes that come with the package: a literal table."""

from normlab import errors
from normlab.lab.recipe import Recipe
from normlab.lab.recipes import (
    bad_init,
    batch_size,
    bias,
    deep_tanh,
    densenet,
    dropout,
    learning_rate,
    lenet,
    population,
    resnet,
    volumes,
    weight_scale,
)

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        deep_tanh,
        bad_init,
        weight_scale,
        batch_size,
        learning_rate,
        dropout,
        population,
        bias,
        lenet,
        resnet,
        densenet,
        volumes,
    )
}
DEFAULT = deep_tanh.RECIPE.name


def recipe_named(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the text says which is nearest.
    """
    if name not in RECIPES:
        problem = errors.Problem(f"there is no recipe `{name}`.", fix=errors.did_you_mean(name, RECIPES))
        raise errors.UsageError(errors.message("compare", problem))
    return RECIPES[name]
