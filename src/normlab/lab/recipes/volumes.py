"""Convolutions over volumes of solids, and the mistake of never updating the running statistics."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="volumes",
    question="What if the statistics of batch norm are never updated?",
    source="S1",
    takes="2 min",
    quick=("seeds=2", "epochs=8", "optimizer.lr_decay=0.6"),
    seeds=5,
    base=RunConfig(
        data="volumes",
        model=Model(kind="volumes", depth=3, width=8, activation="leaky_relu"),
        norm="batch",
        norm_eps=1e-5,
        init=Init(scheme="he"),
        optimizer=Optimizer(name="adam", lr=3e-3, lr_decay=0.75),
        batch=8,  # a hundred steps an epoch: with a keep-momentum of 0.99 the statistics need several hundred to follow
        epochs=12,
        target=0.8,
    ),
    axes={"norm_momentum": (0.01, 0.0)},  # a keep-momentum of 0.99, and the update operations never run
)
