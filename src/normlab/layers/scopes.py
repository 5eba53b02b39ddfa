"""Stretches of a program in which running statistics behave in another way; afterwards everything is as before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedBuffer

from normlab import errors
from normlab.layers.a_model import not_a_model
from normlab.layers.adopt import adopted
from normlab.layers.explicit import Explicit, let_fall
from normlab.ops.moments import Moments

Taker = Callable[[Explicit, list[Moments]], None]


@contextmanager
def stats_frozen(model: nn.Module) -> Iterator[None]:
    """No running statistics move: for the pass of a teacher, an extra loss, or evaluation in train mode.

    Layers in train mode go on to normalize by the batch. `torch.no_grad()` alone does not stop them.

    Args:
        model: with layers of ours or of PyTorch. The statistics of others, that have a forward of their own or are no
            subclass of PyTorch's, are put back at the end. Where a layer of PyTorch is under activation checkpointing,
            backward has to be inside as well: it repeats the forward.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.BatchNorm1d(2))
        >>> with stats_frozen(model):
        ...     y = model(torch.randn(4, 2))
        >>> model[0].running_mean, model[0].num_batches_tracked
        (tensor([0., 0.]), tensor(0))
    """
    errors.invalid_input("stats_frozen", not_a_model(model))
    with adopted(model) as layers, taken(layers, let_fall), _put_back(model):
        yield


@contextmanager
def accumulate(model: nn.Module, micro_batches: int) -> Iterator[None]:
    """Pools the statistics of so many micro-batches into one commit, as the large batch would have made it.

    What is committed at the first batch norm is, to rounding, that of the large batch; later ones see what the first
    ones normalized by their micro-batches. Whatever is left at the end is committed as well. If the block raises, the
    statistics that were not yet committed are dropped. Inside of another such scope, what is pooled goes to that one.

    Args:
        model: with layers of ours or of PyTorch.
        micro_batches: calls of each layer to a commit; usually those between two steps of the optimizer.

    Raises:
        InvalidInputError: `micro_batches` is below 1.

    Differs from torch:
        There every micro-batch is a commit of its own, and the spread between them is lost.

    Source:
        The law of total variance; Chan, Golub & LeVeque (1979).

    Example:
        >>> import torch
        >>> layer = nn.BatchNorm1d(1, momentum=1.0)
        >>> with accumulate(layer, micro_batches=2):
        ...     for part in torch.tensor([[[0.0], [2.0]], [[4.0], [6.0]]]):
        ...         y = layer(part)
        >>> layer.running_mean, layer.running_var  # of 0, 2, 4 and 6
        (tensor([3.]), tensor([6.6667]))
    """
    problems = not_a_model(model)
    if not isinstance(micro_batches, int) or micro_batches < 1:
        rule = "`micro_batches` must be a whole number, at least 1."
        problems.append(errors.Problem(rule, got=repr(micro_batches)))
    errors.invalid_input("accumulate", problems)
    with adopted(model) as layers:
        pools = {layer: _Pool(micro_batches, layer.taker) for layer in layers}
        with taken(layers, lambda layer, found: pools[layer].take(layer, found)):
            yield
        for layer, pool in pools.items():
            pool.commit(layer)


class _Pool:
    """What one layer has gathered since its last commit."""

    def __init__(self, wanted: int, outer: Taker | None) -> None:
        self.wanted = wanted
        self.outer = outer  # of the scope around this one
        self.calls = 0
        self.moments: Moments | None = None

    def take(self, layer: Explicit, found: list[Moments]) -> None:
        self.calls += 1
        for mean, var, count in found:
            bad = ~(mean.isfinite() & var.isfinite()).all()
            layer.refuse(bad)
            values = torch.as_tensor(count, dtype=torch.float64, device=var.device).masked_fill(bad, 0.0)
            moments = Moments(mean.masked_fill(bad, 0.0), var.masked_fill(bad, 0.0), values)
            self.moments = moments if self.moments is None else layer.pooled(self.moments, moments)
        if self.calls == self.wanted:
            self.commit(layer)

    def commit(self, layer: Explicit) -> None:
        moments, self.moments, self.calls = self.moments, None, 0
        if moments is not None and self.outer is not None:
            self.outer(layer, [moments])
        elif moments is not None:
            layer.write(moments)


@contextmanager
def taken(layers: list[Explicit], taker: Taker) -> Iterator[None]:
    """For a while the commits of these layers go to a taker; where such scopes are nested, to the innermost."""
    before = [layer.taker for layer in layers]
    try:
        for layer in layers:
            layer.taker = taker
        yield
    finally:
        for layer, outer in zip(layers, before, strict=True):
            vars(layer).pop("taker", None)
            if outer is not None:
                layer.taker = outer


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Statistics of layers that could not become ours are kept, and written back if they have moved."""
    odd = [each for each in model.modules() if not isinstance(each, Explicit) and _has_statistics(each)]
    tracked = [each for each in odd if getattr(each, "track_running_stats", False) and isinstance(each, _BatchNorm)]
    before = [{name: value.clone() for name, value in each.named_buffers(recurse=False)} for each in odd]
    try:
        for each in tracked:
            each.track_running_stats = False  # one that asks for it, as PyTorch's does, does not even begin
        yield
    finally:
        for each in tracked:
            each.track_running_stats = True
        for layer, held in zip(odd, before, strict=True):
            _write_back(layer, held)


@torch.no_grad()
def _write_back(layer: nn.Module, held: dict[str, Tensor]) -> None:
    for name, value in held.items():
        if not torch.equal(layer.get_buffer(name), value):
            layer.get_buffer(name).copy_(value)


def _has_statistics(module: nn.Module) -> bool:
    running = module._buffers.get("running_mean")
    return running is not None and not isinstance(running, UninitializedBuffer)
