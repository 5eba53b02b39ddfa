"""The bias in front of a norm: what it learns, and what is saved by leaving it out."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="bias",
    question="Is the bias in front of a norm redundant?",
    source="S2; Ioffe & Szegedy 2015",
    takes="20 s",
    quick=("seeds=2", "epochs=4"),
    seeds=5,
    base=RunConfig(
        data="digits",
        model=Model(kind="mlp", depth=4, width=64, activation="relu"),
        init=Init(scheme="he"),
        optimizer=Optimizer(name="sgd", lr=0.05, momentum=0.9),
        batch=64,
        epochs=10,
        target=0.9,
    ),
    axes={"norm": ("none", "batch", "layer"), "model.bias": (True, False)},
)
