"""Tools that change a model in place and report what they did. Importing this loads no torch until one is used."""

import importlib
from typing import TYPE_CHECKING, Any

from normlab.tools.swapped import SwapReport as SwapReport

if TYPE_CHECKING:
    from normlab.tools.swap import swap_ as swap_

_PUBLIC = {"swap_": "normlab.tools.swap"}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'normlab.tools' has no attribute {name!r}")
