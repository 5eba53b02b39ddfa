"""Stretches of a program in which running statistics behave in another way; afterwards everything is as before."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from normlab import errors
from normlab.layers.adopt import adopted
from normlab.layers.explicit import Explicit
from normlab.ops.moments import Moments, merge


@contextmanager
def stats_frozen(model: nn.Module) -> Iterator[None]:
    """No running statistics move: for the pass of a teacher, an extra loss, or evaluation in train mode.

    Layers in train mode go on to normalize by the batch. `torch.no_grad()` alone does not stop them.

    Args:
        model: with layers of ours or of PyTorch. One with a forward of its own, that calls neither, stops if it asks
            for `track_running_stats` as PyTorch's does.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.BatchNorm1d(2))
        >>> with stats_frozen(model):
        ...     y = model(torch.randn(4, 2))
        >>> model[0].running_mean, model[0].num_batches_tracked
        (tensor([0., 0.]), tensor(0))
    """
    with adopted(model) as layers, taken(layers, _let_fall), _untracked(model):
        yield


@contextmanager
def accumulate(model: nn.Module, micro_batches: int) -> Iterator[None]:
    """Pools the statistics of so many micro-batches into one commit, as the large batch would have made it.

    What is committed at the first batch norm is, to rounding, that of the large batch; later ones see what the first
    ones normalized by their micro-batches. Whatever is left at the end is committed as well. If the block raises, the
    statistics that were not yet committed are dropped.

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
    if micro_batches < 1:
        problem = errors.Problem("`micro_batches` must be at least 1.", got=str(micro_batches))
        errors.invalid_input("accumulate", [problem])
    with adopted(model) as layers:
        pools = {layer: _Pool(micro_batches) for layer in layers}
        with taken(layers, lambda layer, moments: pools[layer].take(layer, moments)):
            yield
        for layer, pool in pools.items():
            pool.commit(layer)


class _Pool:
    """What one layer has gathered since its last commit."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.calls = 0
        self.moments: Moments | None = None

    def take(self, layer: Explicit, moments: Moments) -> None:
        self.calls += 1
        if moments.var.isfinite().all():
            self.moments = moments if self.moments is None else merge(self.moments, moments)
        else:
            layer.refuse()
        if self.calls == self.wanted:
            self.commit(layer)

    def commit(self, layer: Explicit) -> None:
        moments, self.moments, self.calls = self.moments, None, 0
        if moments is not None:
            layer.write(moments)


def _let_fall(layer: Explicit, moments: Moments) -> None:
    pass


@contextmanager
def taken(layers: list[Explicit], taker: Callable[[Explicit, Moments], None]) -> Iterator[None]:
    """For a while the commits of these layers go to a taker; where such scopes are nested, to the innermost."""
    before = [layer.taker for layer in layers]
    try:
        for layer in layers:
            layer.taker = taker
        yield
    finally:
        for layer, outer in zip(layers, before, strict=True):
            layer.taker = outer
            if outer is None:
                del layer.taker  # the one of the class is left


@contextmanager
def _untracked(model: nn.Module) -> Iterator[None]:
    """Batch norms that could not become ours: without `track_running_stats` none in train mode moves its statistics."""
    odd = [
        each for each in model.modules()
        if isinstance(each, nn.modules.batchnorm._BatchNorm) and not isinstance(each, Explicit)
    ]  # fmt: skip
    before = [each.track_running_stats for each in odd]
    try:
        for each in odd:
            each.track_running_stats = False
        yield
    finally:
        for each, tracked in zip(odd, before, strict=True):
            each.track_running_stats = tracked
