"""Batch sizes from 2 to 200: where batch norm fades and the others do not."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="batch-size",
    question="How small may a batch be?",
    source="S0; Wu & He 2018",
    takes="2 min",
    quick=("seeds=2", "epochs=3", "batch=5,10,50,200"),
    seeds=5,
    base=RunConfig(
        data="digits",
        train_samples=1000,
        model=Model(kind="mlp", depth=5, width=100, activation="relu"),
        norm_groups=10,
        init=Init(weight_std=0.02, bias=0.0),
        optimizer=Optimizer(name="adam", lr=1e-3),
        batch=50,
        epochs=10,
        target=0.9,
    ),
    axes={"norm": ("none", "batch", "layer", "group"), "batch": (2, 5, 10, 50, 200)},
)
