"""Running statistics as NumPy sees them, where looking and copying cost a tenth of what they cost in PyTorch."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(eq=False)
class Held:
    """The memory of the buffers, looked up once: it stays as long as this does, so that an address tells it.

    `mean` and `var` share it with the buffers, but not their version: what is kept of them for backward may be
    overwritten by the next forward, or by a broadcast of DDP, as it is not used in training.
    """

    at: tuple[int, int, int]
    mean: Tensor
    var: Tensor
    seen: tuple[Any, Any]
    before: tuple[Any, Any]
    commits: Any
    nothing: Any

    def save(self) -> None:
        self.before[0][...], self.before[1][...] = self.seen

    def accept(self) -> bool:
        """Counts what was written since `save`; or takes it back, if it is not finite."""
        if math.isnan(
            np.vdot(self.seen[1], self.nothing)
        ):  # 0 · infinity, and of all products the one without warnings
            self.seen[0][...], self.seen[1][...] = self.before
            return False
        self.commits[0] += 1
        return True


def held(known: Held | None, mean: Tensor, var: Tensor, commits: Tensor) -> Held:
    """What is known of these buffers, or what is found now, if they are others than before."""
    at = mean.data_ptr(), var.data_ptr(), commits.data_ptr()
    if known is not None and known.at == at:
        return known
    with torch.no_grad():
        seen = mean.detach().numpy(), var.detach().numpy()
        before = seen[0].copy(), seen[1].copy()
        return Held(at, mean.data, var.data, seen, before, commits.view(1).numpy(), np.zeros_like(before[1]))
