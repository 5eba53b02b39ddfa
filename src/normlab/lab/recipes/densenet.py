"""A small DenseNet-BC with each norm."""

from normlab.lab.config import Init, Model, Optimizer, RunConfig
from normlab.lab.recipe import Recipe

RECIPE = Recipe(
    name="densenet",
    question="Which norm suits a DenseNet?",
    source="S3; Huang et al. 2017",
    takes="70 s",
    quick=("seeds=2", "epochs=1", "norm=none,batch,group"),
    seeds=5,
    base=RunConfig(
        data="digits",
        model=Model(kind="densenet", depth=22, growth=12, activation="relu"),
        norm_groups=3,  # divides 24, 33 and every other number of channels here
        init=Init(scheme="he"),
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
        batch=64,
        epochs=5,
        target=0.95,
        eval_batch=500,
    ),
    axes={"norm": ("none", "batch", "layer", "group", "instance", "rms")},
)
