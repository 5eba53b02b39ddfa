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

_PUBLIC = {
    "reference": "normlab.reference",
    "lab": "normlab.lab",
    "errors": "normlab.errors",
}
__all__ = ["__version__", "errors", "lab", "reference"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return importlib.import_module(_PUBLIC[name])
    raise AttributeError(f"module 'normlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
