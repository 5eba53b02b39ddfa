"""A network of the user's: which normalization suits it?"""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe


def own_recipe(factory: str) -> Recipe:
    """The comparison that `--model` stands for.

    Args:
        factory: `FILE.py:FUNCTION` or `MODULE:FUNCTION` that returns the network.

    Example:
        >>> own_recipe("models:make").axes
        {'norm': ('batch', 'group', 'layer')}
    """
    return Recipe(
        name="own",
        question=f"Which normalization suits {factory.rpartition('/')[2]}?",
        source="a network of the user's",
        takes="as long as your network does",
        quick=("seeds=2", "epochs=3"),
        seeds=5,
        base=RunConfig(
            model=Model(kind="own", factory=factory),
            init=Init(scheme="own"),
            optimizer=Optimizer(name="adam", lr=1e-3),
            batch=32,
            epochs=20,
        ),
        axes={"norm": ("batch", "group", "layer")},
    )


def with_own_network(recipe: Recipe, factory: str) -> Recipe:
    """A recipe asked of the user's network; one that is about the lab's own network becomes the comparison of norms.

    Example:
        >>> from normlab.lab.recipes.learning_rate import RECIPE
        >>> with_own_network(RECIPE, "models:make").question
        'How large may the learning rate be? (in models:make)'
    """
    own = own_recipe(factory)
    network = {"model": own.base.model, "init": own.base.init, "norm_groups": own.base.norm_groups}
    name = factory.rpartition("/")[2]
    question = own.question if set(recipe.axes) == {"norm"} else f"{recipe.question} (in {name})"
    return recipe.model_copy(update={"base": recipe.base.model_copy(update=network), "question": question})
