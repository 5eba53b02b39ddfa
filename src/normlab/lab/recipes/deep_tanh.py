"""Eight tanh layers that start badly, on real handwritten digits: does normalization rescue them?"""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="deep-tanh",
    question="Does normalization rescue a tanh network that starts badly?",
    source="S4; Ioffe & Szegedy 2015",
    takes="20 s",
    quick=("seeds=2", "epochs=5"),
    seeds=5,
    base=RunConfig(
        data="digits",
        model=Model(kind="mlp", depth=8, width=64, activation="tanh"),
        init=Init(weight_std=0.05, bias=-0.2),
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9),
        batch=64,
        epochs=15,
        target=0.9,
    ),
    axes={"norm": ("none", "batch", "layer")},
)
