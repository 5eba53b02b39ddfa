"""Which kernel serves a tensor. The only place where this is decided."""

from typing import Literal

import torch
from torch import Tensor

Backend = Literal["stock", "registered", "formula"]
Op = Literal["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"]
# of PyTorch's, those that write statistics into a tensor, which no transform of `torch.func` can follow
WRITES: tuple[Op, ...] = ("batch_norm", "instance_norm")
# in the place of the choice, for tests that hold every backend against PyTorch
forced: Backend | None = None


def pick(op: Op, x: Tensor, mask: Tensor | None) -> Backend:
    """What computes a norm of `x`, forward and backward.

    * `stock`: the function of `torch.nn.functional`, with PyTorch's own gradient.
    * `registered`: our op of `torch.library`, that keeps `x` and the statistics for its backward, with or without mask.
    * `formula`: plain torch operations, which every transform of `torch.func` takes apart.

    A registered op costs 30 µs more forward and 80 µs with backward than the stock one at (8, 64), and has the same
    kernel behind it for now: so it serves what the stock one cannot. `torch.func.grad` refuses registered ops.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> pick("batch_norm", x, None), pick("batch_norm", x, torch.ones(2, dtype=torch.bool))
        ('stock', 'registered')
    """
    if forced is not None:
        return forced
    if transformed() and (mask is not None or op in WRITES):
        return "formula"
    if mask is None:
        return "stock"
    return "formula" if torch.compiler.is_exporting() else "registered"  # who reads what is exported has no op of ours


def transformed() -> bool:
    """Whether this runs inside of a transform of `torch.func`."""
    return torch._C._functorch.maybe_current_level() is not None
