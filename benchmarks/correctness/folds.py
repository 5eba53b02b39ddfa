"""Norms folded into their neighbours, and biases in front of them."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from benchmarks.correctness.row import Figures, Row, normal, raised
from normlab.tools import drop_bias_, fold_
from normlab.tools.grouped import param_groups


def _trained(model: nn.Sequential) -> nn.Sequential:
    """With statistics and weights as training leaves them, in eval."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            if each.is_floating_point():
                each.copy_(torch.rand(each.shape, generator=generator) + 0.5)
    return model.eval()


def _error(before: Tensor, after: Tensor) -> float:
    return float((after - before).detach().abs().max() / before.detach().abs().max())


def _folded(model: nn.Sequential, x: Tensor, fuse: Callable[[nn.Sequential], nn.Module]) -> Figures:
    """Largest relative error of the outputs; ours of what `fold_` leaves."""
    expected = model(x)
    try:
        theirs: float | str = _error(expected, fuse(copy.deepcopy(model))(x))
    except Exception as error:
        theirs = type(error).__name__
    mine = copy.deepcopy(model)
    fold_(mine, x, border="pad")
    return Figures(theirs, _error(expected, mine(x)), 0.0)


def transposed() -> Figures:
    model = _trained(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)))
    return _folded(model, normal(0, 2, 4, 5, 5), lambda m: fuse_conv_bn_eval(m[0], m[1], transpose=True))


def without_affine() -> Figures:
    model = _trained(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False)))
    return _folded(model, normal(0, 8, 4), lambda m: fuse_linear_bn_eval(m[0], m[1]))


def positions() -> Figures:
    model = _trained(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)))
    return _folded(model, normal(0, 2, 7, 5), lambda m: fuse_linear_bn_eval(m[0], m[1]))


def border() -> Figures:
    model = _trained(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)))

    def naive(m: nn.Sequential) -> nn.Module:
        scale = m[0].weight / (m[0].running_var + m[0].eps).sqrt()
        shift = m[0].bias - m[0].running_mean * scale
        conv = m[1]
        with torch.no_grad():
            conv.bias += (conv.weight * shift[None, :, None, None]).sum((1, 2, 3))
            conv.weight *= scale[None, :, None, None]
        return conv

    return _folded(model, normal(0, 2, 3, 6, 6), naive)


class Shared(nn.Module):
    """A convolution that is read by its norm and by a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y: Tensor = self.norm(x) + x
        return y


def another_reader() -> Figures:
    model = Shared()
    _trained(nn.Sequential(model))
    x = normal(0, 2, 3, 4, 4)
    expected = model(x)
    theirs, mine = copy.deepcopy(model), copy.deepcopy(model)
    theirs.conv, theirs.norm = fuse_conv_bn_eval(theirs.conv, theirs.norm), nn.Identity()
    fold_(mine, x)
    return Figures(_error(expected, theirs(x)), _error(expected, mine(x)), 0.0)


def bias_taken_away() -> Figures:
    model = _trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    x = normal(0, 2, 3, 6, 6)
    expected = model(x)
    theirs, mine = copy.deepcopy(model), copy.deepcopy(model)
    theirs[0].bias = None
    drop_bias_(mine, x)
    return Figures(_error(expected, theirs(x)), _error(expected, mine(x)), 0.0)


def decayed() -> Figures:
    """Elements of norm weights and of biases that weight decay draws to 0."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2), nn.LayerNorm(2))
    matrices = {id(model[0].weight), id(model[2].weight)}
    groups = (torch.optim.AdamW(model.parameters()), torch.optim.AdamW(param_groups(model, 0.01)))
    counts = [
        sum(each.numel() for group in optimizer.param_groups if group["weight_decay"] for each in group["params"]
            if id(each) not in matrices)
        for optimizer in groups
    ]  # fmt: skip
    return Figures(float(counts[0]), float(counts[1]), 0.0)


def on_the_cpu() -> Figures:
    """Synchronized batch norm in a process group of one, on the CPU."""
    import tempfile

    import torch.distributed as dist

    from normlab.tools import sync_

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            theirs = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(2)))
            mine = nn.Sequential(nn.BatchNorm1d(2))
            sync_(mine)
            x = normal(0, 8, 2)
            return Figures(raised(lambda: theirs(x)), raised(lambda: mine(x)), "no error")
        finally:
            dist.destroy_process_group()


ERROR = "largest relative error of the output"
ROWS = (
    Row("grouped transposed convolution", 41, "then batch norm", "fuse_conv_bn_eval", "fold_", ERROR, transposed),
    Row("a norm without weights", 41, "behind a linear layer", "fuse_linear_bn_eval", "fold_", ERROR, without_affine),
    Row("linear on (N, L, C)", 41, "with L = C", "fuse_linear_bn_eval", "fold_ (keeps it)", ERROR, positions),
    Row("norm before a padded convolution", 41, "padding 1", "folding as without padding", 'fold_(border="pad")', ERROR,
        border),
    Row("a second reader", 41, "a shortcut around the norm", "fuse_conv_bn_eval", "fold_ (keeps it)", ERROR,
        another_reader),
    Row("a useless bias", 22, "taken away before a norm", "conv.bias = None", "drop_bias_", ERROR, bias_taken_away),
    Row("weight decay", 21, "a network of two norms", "AdamW(model.parameters())", "param_groups",
        "decayed elements of norms and biases", decayed),
    Row("synchronized on a CPU", 15, "a group of one process", "SyncBatchNorm", "sync_", "error", on_the_cpu),
)  # fmt: skip
