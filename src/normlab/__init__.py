"""Normalization for neural networks, done right: fast layers, honest statistics, an auditor, and a lab.

Importing this package loads no torch, no plotting and no data library: each public name is imported
when it is first used.

Example:
    >>> import normlab
    >>> normlab.reference.relu.__name__
    'relu'
"""

import importlib
from typing import Any

__version__ = "0.1.0"

MODULES = ("errors", "lab", "layers", "reference", "tools")
NAMES = {
    "accumulate": "normlab.layers",
    "backend": "normlab.kernels.pick",
    "domain": "normlab.layers",
    "functional_call": "normlab.layers",
    "lean": "normlab.ops.lean",
    "stats_frozen": "normlab.layers",
    "accelerate_": "normlab.tools",
    "drop_bias_": "normlab.tools",
    "fold_": "normlab.tools",
    "freeze_": "normlab.tools",
    "inference": "normlab.tools",
    "param_groups": "normlab.tools",
    "recalibrate_": "normlab.tools",
    "repair_": "normlab.tools",
    "swap_": "normlab.tools",
    "sync_": "normlab.tools",
    "unfreeze_": "normlab.tools",
    "unsync_": "normlab.tools",
}
__all__ = ["__version__", *MODULES, *NAMES]  # strings, all of them


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(f"normlab.{name}")
    if name in NAMES:
        return getattr(importlib.import_module(NAMES[name]), name)
    raise AttributeError(f"module 'normlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
