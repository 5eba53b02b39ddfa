"""Twenty weight scales: how much does normalization free a network from its initialization?"""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

SCALES = tuple(float(f"{10 ** (-4 + 4 * step / 19):.3g}") for step in range(20))  # evenly spaced in the logarithm

RECIPE = Recipe(
    name="weight-scale",
    question="From how many weight scales does the network still train?",
    source="S0",
    takes="90 s",
    quick=("seeds=2", "epochs=5", "init.weight_std=0.0001,0.001,0.01,0.03,0.1,0.3,1"),
    seeds=5,
    base=RunConfig(
        data="digits",
        train_samples=1000,
        model=Model(kind="mlp", depth=7, width=50, activation="relu"),
        init=Init(weight_std=0.02, bias=0.0),
        optimizer=Optimizer(name="adam", lr=1e-3),
        batch=50,
        epochs=10,
        target=0.9,
    ),
    axes={"norm": ("none", "batch", "layer"), "init.weight_std": SCALES},
)
