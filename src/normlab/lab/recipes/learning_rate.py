"""Ten learning rates over four decades: how wide is the range that still trains?"""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RATES = tuple(float(f"{10 ** (-3 + 4 * step / 9):.3g}") for step in range(10))  # evenly spaced in the logarithm

RECIPE = Recipe(
    name="learning-rate",
    question="How large may the learning rate be?",
    source="S1, S4; Ioffe & Szegedy 2015",
    takes="35 s",
    quick=("seeds=2", "epochs=5", "optimizer.lr=0.001,0.01,0.1,1,10"),
    seeds=5,
    base=RunConfig(
        data="digits",
        train_samples=1000,
        model=Model(kind="mlp", depth=5, width=100, activation="relu"),
        init=Init(weight_std=0.1, bias=0.0),
        optimizer=Optimizer(name="sgd", lr=0.1),
        batch=50,
        epochs=10,
        target=0.9,
    ),
    axes={"norm": ("none", "batch", "layer"), "optimizer.lr": RATES},
)
