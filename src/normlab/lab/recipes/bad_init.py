"""The regression of S4: a parabola, a net with a bad start, with and without batch norm."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="bad-init",
    question="Can batch norm fit a parabola from a bad start?",
    source="S4",
    takes="15 s",
    quick=("seeds=2",),
    seeds=5,
    base=RunConfig(
        data="curve",
        model=Model(kind="mlp", depth=8, width=10, activation="tanh", input_norm=True),
        norm_momentum=0.5,
        norm_groups=2,
        init=Init(weight_std=0.1, bias=-0.2),
        optimizer=Optimizer(name="adam", lr=0.03),
        batch=64,
        epochs=12,
        target=200.0,
    ),
    axes={"norm": ("none", "batch")},
)
