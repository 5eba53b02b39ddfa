"""ResNet-20 with each norm."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="resnet",
    question="Which norm suits a ResNet-20?",
    source="S3; He et al. 2015",
    takes="1 min",
    quick=("seeds=2", "epochs=1", "norm=none,batch,group"),
    seeds=5,
    base=RunConfig(
        data="digits",
        model=Model(kind="resnet", depth=20, width=16, activation="relu"),
        init=Init(scheme="he"),
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
        batch=128,
        epochs=5,
        target=0.95,
        eval_batch=500,
    ),
    axes={"norm": ("none", "batch", "layer", "group", "instance", "rms")},
)
