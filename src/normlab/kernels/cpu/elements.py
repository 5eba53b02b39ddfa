"""How the elements of tensors are told to a kernel: by a zero of the type that stands for them in memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

# NumPy has no bfloat16, and Numba no float16 on a processor: 16 bits stand for them, of one sign or the other
ZERO: dict[torch.dtype, Any] = {
    torch.float32: np.float32(0),
    torch.float64: np.float64(0),
    torch.bfloat16: np.uint16(0),
    torch.float16: np.int16(0),
}


def at(x: Tensor | None) -> int:
    """The address of a tensor; 0 for none, which the kernel then does not touch."""
    return 0 if x is None else x.data_ptr()


def wide(x: Tensor) -> torch.dtype:
    """In what it is computed, and what its statistics and parameters have to be in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
