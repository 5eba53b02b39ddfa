"""Running statistics that move when they should not, or take what they should not."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.correctness.row import Figures, Row, normal, raised
from normlab import layers
from normlab.layers import functional_call, stats_frozen
from normlab.tools import freeze_, sync_


def _finite(layer: nn.Module) -> float | str:
    value = float(layer.running_var[0])
    return value if torch.isfinite(layer.running_var).all() else str(value)


def infinity() -> Figures:
    batches = [normal(at, 64, 1) for at in range(500)]
    found = []
    for kind, first in ((nn.BatchNorm1d, True), (layers.BatchNorm1d, True), (nn.BatchNorm1d, False)):
        layer = kind(1)
        if first:
            layer(torch.full((4, 1), torch.inf))
        for batch in batches:
            layer(batch)
        found.append(_finite(layer))
    return Figures(*found)


def _commits_of_a_step(kind: type[nn.BatchNorm1d], reentrant: bool) -> float:
    layer = kind(4)
    x = normal(0, 8, 4).requires_grad_()
    checkpoint(layer, x, use_reentrant=reentrant).backward(normal(1, 8, 4))
    return float(layer.num_batches_tracked)


def checkpoint_reentrant() -> Figures:
    return Figures(_commits_of_a_step(nn.BatchNorm1d, True), _commits_of_a_step(layers.BatchNorm1d, True), 1.0)


def checkpoint_without() -> Figures:
    return Figures(_commits_of_a_step(nn.BatchNorm1d, False), _commits_of_a_step(layers.BatchNorm1d, False), 1.0)


def teacher() -> Figures:
    theirs, mine = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        theirs(5.0 + normal(0, 64, 1))
    with stats_frozen(mine):
        mine(5.0 + normal(0, 64, 1))
    return Figures(float(theirs.running_mean), float(mine.running_mean), 0.0)


def only_requires_grad() -> Figures:
    theirs, mine = nn.BatchNorm1d(1).requires_grad_(False), nn.BatchNorm1d(1)
    freeze_(mine, affine="frozen")
    for layer in (theirs, mine):
        layer.train()
        layer(5.0 + normal(0, 64, 1))
    return Figures(float(theirs.running_mean), float(mine.running_mean), 0.0)


def eval_undone() -> Figures:
    theirs, mine = nn.Sequential(nn.BatchNorm1d(1)), nn.Sequential(nn.BatchNorm1d(1))
    theirs[0].eval()
    freeze_(mine)
    return Figures(*(float(model.train()[0].training) for model in (theirs, mine)), 0.0)


def untracked() -> Figures:
    """What Lightning's `BaseFinetuning.freeze_module` does."""

    def layer() -> nn.BatchNorm1d:
        made = nn.BatchNorm1d(1)
        made.running_mean.fill_(5.0)
        made.running_var.fill_(4.0)
        return made

    x = 20.0 + 0.1 * normal(0, 256, 1)
    theirs, mine, exact = layer(), layer(), layer().double().eval()
    theirs.track_running_stats = False
    freeze_(mine)
    outputs = (theirs.train()(x), mine.train()(x), exact(x.double()))
    return Figures(*(float(y.detach().mean()) for y in outputs))


def half() -> Figures:
    x = 300.0 * normal(0, 4_096, 1)
    found = []
    for kind in (nn.BatchNorm1d, layers.BatchNorm1d):
        layer = kind(1, momentum=1.0).half()
        layer(x.half())
        found.append(_finite(layer))
    return Figures(str(found[0]), found[1], float(x.half().double().var()))


def broadcast() -> Figures:
    """`DistributedDataParallel` writes the buffers of rank 0 into those of the others before each forward."""

    def twice(layer: nn.BatchNorm1d) -> None:
        x = normal(0, 8, 2).requires_grad_()
        ys = []
        for _ in range(2):
            with torch.no_grad():
                for buffer in layer.buffers():
                    buffer.copy_(buffer.clone())
            ys.append(layer(x))
        (ys[0] + ys[1]).backward(normal(1, 8, 2))

    theirs, mine = nn.BatchNorm1d(2), layers.BatchNorm1d(2)
    return Figures(raised(lambda: twice(theirs)), raised(lambda: twice(mine)), "no error")


def padding() -> Figures:
    x = 5.0 + normal(0, 64, 1, 10)
    padded = torch.cat([x, torch.zeros(64, 1, 30)], dim=2)
    theirs, mine = nn.BatchNorm1d(1, momentum=1.0), layers.BatchNorm1d(1, momentum=1.0)
    theirs(padded)
    mine(padded, mask=torch.arange(40) < 10)
    return Figures(float(theirs.running_mean), float(mine.running_mean), float(x.double().mean()))


def wrong_axis() -> Figures:
    """Channels last, as many positions as channels: nothing tells that the wrong dimension is normalized."""
    x = normal(0, 32, 8, 8) + 10.0 * torch.arange(8)
    theirs, mine = nn.BatchNorm1d(8), layers.BatchNorm1d(8, axis=-1)
    return Figures(*(float((layer(x).mean((0, 1)).abs() > 0.1).sum()) for layer in (theirs, mine)), 0.0)


def large_mean() -> Figures:
    """What `use_fast_variance` of Flax and the group norm of Liger compute: E[x²] − E[x]²."""
    x = 1_000.0 + 0.1 * normal(0, 4_096, 1)
    fast = float(x.square().mean() - x.mean().square())
    layer = layers.BatchNorm1d(1, momentum=1.0)
    layer(x)
    return Figures(fast, float(layer.running_var), float(x.double().var()))


def vmapped() -> Figures:
    layer = nn.BatchNorm1d(2)
    x = normal(0, 3, 8, 2)

    def stock() -> Tensor:
        held = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        return torch.vmap(lambda each: torch.func.functional_call(layer, held, each))(x)

    mine = raised(lambda: torch.vmap(lambda each: functional_call(layer, {}, each))(x))
    return Figures(raised(stock), mine, "no error")


def subclass_synced() -> Figures:
    class Doubled(nn.BatchNorm1d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(Doubled(1)).eval()
    mine = copy.deepcopy(model)
    theirs = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    sync_(mine)
    x = torch.ones(2, 1)
    return Figures(*(float(each(x).detach()[0, 0]) for each in (theirs, mine)), 2 / (1 + 1e-5) ** 0.5)


ROWS = (
    Row("one infinite batch", 18, "then 500 clean ones", "BatchNorm1d", "BatchNorm1d", "running variance", infinity),
    Row("checkpointing, reentrant", 20, "one step", "BatchNorm1d", "BatchNorm1d", "commits", checkpoint_reentrant),
    Row("checkpointing, not reentrant", 20, "one step", "BatchNorm1d", "BatchNorm1d", "commits", checkpoint_without),
    Row("a pass of a teacher", 6, "in train mode, inputs around 5", "torch.no_grad", "stats_frozen", "running mean",
        teacher),
    Row("frozen by `requires_grad`", 4, "one batch around 5", "requires_grad_(False)", "freeze_", "running mean",
        only_requires_grad),
    Row("frozen by `eval`", 3, "then `model.train()`", "layer.eval()", "freeze_", "`training` of the layer",
        eval_undone),
    Row("frozen by `track_running_stats`", 5, "statistics of mean 5, inputs around 20, in train", "Lightning's freeze",
        "freeze_", "mean of the output", untracked, tolerance=1e-5),
    Row("a model in half precision", 30, "inputs of deviation 300", "BatchNorm1d", "BatchNorm1d", "running variance",
        half, tolerance=1e-5),
    Row("two forwards before backward", 12, "with the broadcast of DDP between them", "BatchNorm1d", "BatchNorm1d",
        "error", broadcast),
    Row("padding", 25, "10 values around 5, then 30 zeros", "BatchNorm1d", "BatchNorm1d with a mask", "running mean",
        padding),
    Row("channels last", 26, "(N, L, C) with L = C", "BatchNorm1d", "BatchNorm1d(axis=-1)",
        "channels that are not centred", wrong_axis),
    Row("a large mean", 33, "mean 1,000, deviation 0.1, float32", "E[x²] − E[x]² (Flax, Liger)", "BatchNorm1d",
        "variance", large_mean, tolerance=1e-3),
    Row("vmap in train mode", 38, "three models at once", "torch.func.functional_call", "functional_call", "error",
        vmapped),
    Row("a subclass is synchronized", 42, "its forward doubles", "convert_sync_batchnorm", "sync_", "output for 1",
        subclass_synced),
)  # fmt: skip
