"""Separate random streams for each purpose, derived from the seed.

Variants share the streams of initial weights and batch order because no norm layer draws from them.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose; streams of different purposes are unrelated.

    Example:
        >>> stream_seed(0, "init") == stream_seed(0, "order")
        False
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_stream(seed: int, purpose: str) -> "torch.Generator":
    """A generator of torch for one purpose."""
    import torch  # here, so that data sets can be made, and records drawn, without loading it

    return torch.Generator().manual_seed(stream_seed(seed, purpose))


def numpy_stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator of NumPy for one purpose."""
    return np.random.default_rng(stream_seed(seed, purpose))
