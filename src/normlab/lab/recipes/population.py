"""Where the statistics of evaluation come from: moving averages, the simple average, and pooling by count."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="population",
    question="Which statistics should batch norm evaluate with?",
    source="S2; Ioffe & Szegedy 2015",
    takes="25 s",
    quick=("seeds=2", "epochs=4"),
    seeds=5,
    base=RunConfig(
        data="digits",
        model=Model(kind="mlp", depth=4, width=64, activation="relu"),
        norm="batch",
        init=Init(scheme="he"),
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9),
        batch=128,
        epochs=8,
        target=0.9,
        probe=1437,  # the whole training set: the gap of the running statistics is that to the true population
        eval_batch=1,  # one sample at a time, whose own statistics would say nothing
    ),
    axes={"norm_momentum": (0.01, 0.1, 0.5, "average", "pooled")},
)
