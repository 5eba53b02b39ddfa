"""The global random streams that a network of the user's may draw from, taken and put back together."""

import random
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Those of torch, NumPy and Python: tensors, numbers and strings, as a checkpoint holds them."""
    name, words, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "numpy": (name, torch.from_numpy(np.asarray(words).astype(np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Goes back to such states."""
    torch.set_rng_state(states["torch"])
    name, words, *rest = states["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *rest))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
