"""Arrays as tensors."""

import numpy as np
import torch

from normlab.lab.config import RunConfig


def tensor(array: np.ndarray, config: RunConfig) -> torch.Tensor:
    """The array, with numbers that are not whole in the dtype of the run."""
    found = torch.from_numpy(np.ascontiguousarray(array))
    return found.to(getattr(torch, config.dtype)) if found.is_floating_point() else found
