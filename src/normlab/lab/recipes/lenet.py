"""LeNet with each norm."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="lenet",
    question="Which norm suits a LeNet?",
    source="S1, S3; LeCun et al. 1998",
    takes="30 s",
    quick=("seeds=2", "epochs=2"),
    seeds=5,
    base=RunConfig(
        data="digits",
        model=Model(kind="lenet", depth=2, width=32, activation="relu", dropout=0.5),
        init=Init(scheme="he"),
        optimizer=Optimizer(name="adam", lr=1e-3),
        batch=64,
        epochs=5,
        target=0.95,
    ),
    axes={"norm": ("none", "batch", "layer", "group", "rms")},
)
