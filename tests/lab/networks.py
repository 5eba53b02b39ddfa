"""The least network of each kind, and data for it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from normlab.lab.config import Model, RunConfig
from normlab.lab.data import Dataset
from normlab.lab.data.forms import FORMS
from normlab.lab.models import build_model

# two groups divide the channels of every norm
TINY: dict[str, dict[str, Any]] = {
    "mlp": {"depth": 2, "width": 8},
    "conv": {"depth": 2, "width": 8},
    "lenet": {"width": 4},
    "resnet": {"depth": 8, "width": 4},
    "densenet": {"depth": 10, "growth": 8},
    "volumes": {"depth": 2, "width": 4},
}
WEIGHTS = (nn.Linear, nn.Conv2d, nn.Conv3d)
# float64 of unit size: sums of up to 200 values in the order of torch and in that of a direct computation
CLOSE = 1e-12


def random_data(name: str) -> Dataset:
    """Six samples in the form of that data set."""
    form = FORMS[name]
    x = np.random.default_rng(0).normal(size=(6, *form.shape)).astype(np.float32)
    y = np.arange(6) % form.outputs
    return Dataset(name, form.task, x, y, x, y, form.outputs)


def tiny(kind: str, norm: str = "none", **settings: Any) -> RunConfig:
    model = Model(kind=kind, **TINY[kind] | settings.pop("model", {}))
    return RunConfig(
        data="volumes" if kind == "volumes" else "digits", model=model, norm=norm, norm_groups=2, **settings
    )


def built(config: RunConfig) -> nn.Module:
    return build_model(config, random_data(config.data.partition("=")[0]))


def weights(model: nn.Module) -> Iterator[Any]:
    return (layer for layer in model.modules() if isinstance(layer, WEIGHTS))
