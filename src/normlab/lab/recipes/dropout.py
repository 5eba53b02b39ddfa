"""Dropout on 500 training samples, with and without batch norm: how far apart are training and test?"""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="dropout",
    question="Does dropout close the train–test gap, also with batch norm?",
    source="S0; Ioffe & Szegedy 2015",
    takes="20 s",
    quick=("seeds=2", "epochs=10"),
    seeds=5,
    base=RunConfig(
        data="digits",
        train_samples=500,
        model=Model(kind="mlp", depth=1, width=500, activation="relu"),
        norm_groups=10,
        init=Init(weight_std=0.01, bias=0.0),
        optimizer=Optimizer(name="adam", lr=5e-4),
        batch=100,
        epochs=25,
        target=0.9,
        probe=500,  # every training sample, so that the gap is exact
    ),
    axes={"norm": ("none", "batch"), "model.dropout": (0.0, 0.75)},
)
