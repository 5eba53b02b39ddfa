"""Population statistics of batch norms from the whole training set, put in the place of the running ones."""

import math
from typing import Literal

import torch
from torch import nn

from normlab.lab.random_states import random_states, set_random_states
from normlab.lab.sites import BatchNorm
from normlab.tools.population_norms import norms_asked, set_statistics
from normlab.tools.recalibrate import recalibrate_
from normlab.tools.recalibrate_watch import NotFiniteError

Method = Literal["average", "pooled"]


def set_population_statistics(model: nn.Module, x: torch.Tensor, batch: int, method: Method) -> None:
    """Writes the statistics of the training set into the running ones. Each batch is normalized by its own, as in
    training; dropout is off. Where activations are not finite, the statistics are NaN, and so is what they evaluate to.

    Args:
        model: with any number of batch norms; all else of it is left alone.
        x: the training set, taken in batches in order. A last batch of one sample is left out.
        batch: samples in a batch.
        method: `average` or `pooled`, as in `recalibrate_`.
    """

    def batch_norm(_: str, module: nn.Module) -> bool:
        return isinstance(module, BatchNorm) and module.track_running_stats

    batches = [chosen for chosen in x.split(batch) if len(chosen) > 1]
    before = random_states()
    try:  # each process of several has the whole set
        recalibrate_(model, batches, method, order="one_pass", where=batch_norm, group="alone")
    except NotFiniteError:
        for module in norms_asked(model, batch_norm).values():
            if isinstance(module, BatchNorm):
                nothing = torch.tensor(math.nan)
                set_statistics(module, nothing, nothing)
    finally:
        set_random_states(before)
