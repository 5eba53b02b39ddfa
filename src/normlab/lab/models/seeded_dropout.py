"""Dropout whose masks are those of the NumPy reference."""

import numpy as np
import torch
from torch import nn

from normlab.reference import dropout, dropout_seed


class SeededDropout(nn.Module):
    """y = mask · x in training, with the mask of `normlab.reference.dropout` for this seed, step and name.

    Both engines drop the same values, and so do networks of one seed that differ in their norm alone. `steps` counts
    the forward passes in training and is saved with the weights; `build_model` sets `name` and `seed`.

    Shape:
        any → the same.

    Differs from torch:
        `torch.nn.Dropout` draws from the global random state.
    """

    steps: torch.Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.name = ""
        self.seed = 0
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        seed = dropout_seed(self.seed, int(self.steps), self.name)
        # a broadcast 1 halves the time of np.ones: 12.6 instead of 29.8 ms for (64, 16, 32, 32); nn.Dropout took 30
        mask = dropout(np.broadcast_to(1.0, x.shape), p=self.p, seed=seed)
        self.steps.add_(1)
        return x * torch.from_numpy(mask).to(x)

    def extra_repr(self) -> str:
        return f"p={self.p}"
