"""How much of a new batch goes into the running statistics."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Rule = Literal["ema", "debiased", "cumulative"]
RULES = get_args(Rule)


def new_share(rule: Rule, momentum: float | None, commits: Tensor | None) -> float | Tensor:
    """The factor f of running ← running + f · (batch − running).

    * `ema`: the momentum, as in PyTorch; where that is None, `cumulative`.
    * `debiased`: m / (1 − (1 − m)^t) at commit t: the moving average without the weight of its start value, which
      under `ema` is still (1 − m)^t.
    * `cumulative`: 1 / t, so that every batch counts alike.

    Args:
        rule: one of these.
        momentum: weight of the new batch.
        commits: how many there were before this one; needed for all but a plain moving average.

    Example:
        >>> [round(float(new_share("debiased", 0.1, torch.tensor(t))), 3) for t in (0, 1)]  # all, then 0.1 / 0.19
        [1.0, 0.526]
    """
    if rule == "ema" and momentum is not None:
        return momentum
    if commits is None:
        return 0.0
    t = commits.double() + 1
    if rule == "cumulative" or momentum is None:
        return 1 / t
    if not 0 < momentum < 1:
        return momentum
    share = momentum / -torch.expm1(t * math.log1p(-momentum))
    return torch.where(t > 1, share, 1.0)  # exactly: nothing is to be left of the start
