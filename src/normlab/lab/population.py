"""Population statistics of batch norms from the whole training set, put in the place of the running ones."""

from typing import Literal

import torch
from torch import nn

from normlab.lab.preserve import preserved
from normlab.lab.sites import BatchNorm

Method = Literal["average", "pooled"]


@torch.no_grad()
def set_population_statistics(model: nn.Module, x: torch.Tensor, batch: int, method: Method) -> None:
    """Writes the statistics of the training set into the running ones. Each batch is normalized by its own, as in
    training; dropout is off.

    Args:
        model: with any number of batch norms; its parameters and modes are left alone.
        x: the training set, taken in batches in order. A last batch of one sample is left out.
        batch: samples in a batch.
        method: `average` is the mean over batches of their means and of their unbiased variances, `pooled` weighs by
            count and adds the variance between the batches (law of total variance).

    Source:
        Ioffe & Szegedy 2015, algorithm 2 (average).
    """
    norms = [module for module in model.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    seen: dict[BatchNorm, list[tuple[torch.Tensor, torch.Tensor, int]]] = {norm: [] for norm in norms}

    def keep(norm: BatchNorm, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double()
        seen[norm].append((values.mean(1), values.var(1, correction=1), values.shape[1]))

    handles = [norm.register_forward_pre_hook(keep) for norm in norms]
    try:
        with preserved(model):
            model.eval()
            for norm in norms:
                norm.train()
            for chosen in x.split(batch):
                if len(chosen) > 1:
                    model(chosen)
    finally:
        for handle in handles:
            handle.remove()
    for norm, batches in seen.items():
        if batches:
            mean, var = (_average if method == "average" else _pooled)(batches)
            norm.get_buffer("running_mean").copy_(mean)
            norm.get_buffer("running_var").copy_(var)


def _average(batches: list[tuple[torch.Tensor, torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([mean for mean, _, _ in batches]).mean(0), torch.stack([var for _, var, _ in batches]).mean(0)


def _pooled(batches: list[tuple[torch.Tensor, torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and unbiased variance of all values, from those of the batches."""
    counts = torch.tensor([count for _, _, count in batches], dtype=torch.float64)[:, None]
    means, variances = torch.stack([mean for mean, _, _ in batches]), torch.stack([var for _, var, _ in batches])
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    squares = ((counts - 1) * variances + counts * (means - mean).square()).sum(0)
    return mean, squares / (total - 1)
