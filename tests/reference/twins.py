"""Networks of the reference as modules of torch, built from torch's own layers by hand, and trained by torch."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from normlab.reference import BuiltNetwork, ConvNet, FullyConnected, Network, Solver, Trained, dropout, dropout_seed

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": lambda *a, momentum=0.9, **how: torch.optim.SGD(*a, momentum=momentum, **how),
    "rmsprop": torch.optim.RMSprop,
    "adam": lambda *a, beta1=0.9, beta2=0.999, **how: torch.optim.Adam(*a, betas=(beta1, beta2), **how),
}


LOSSES = {"cross_entropy": nn.functional.cross_entropy, "mean_squared_error": nn.functional.mse_loss}


class Masked(nn.Module):
    """Dropout with the masks of the reference."""

    def __init__(self, name: str, p: float, seed: int) -> None:
        super().__init__()
        self.name, self.p, self.seed, self.step = name, p, seed, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        mask = dropout(np.ones(x.shape), p=self.p, seed=dropout_seed(self.seed, self.step, self.name))
        self.step += 1
        return x * torch.tensor(mask)


class ChannelRMS(nn.Module):
    """x / √(mean(x²) + eps) over each sample, with one weight a channel; torch's own has one an element."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean_square = (x**2).mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        return x / (mean_square + self.eps).sqrt() * self.weight.view(-1, *[1] * (x.ndim - 2))


def norm_twin(
    norm: str | None, channels: int, *, spatial: bool, groups: int = 2, eps: float = 1e-5, momentum: float = 0.1
) -> nn.Module:
    """torch's layer for (N, C), or for (N, C, H, W)."""
    match norm:
        case None:
            return nn.Identity()
        case "batch":
            return (nn.BatchNorm2d if spatial else nn.BatchNorm1d)(channels, eps, momentum)
        case "layer":
            return nn.GroupNorm(1, channels, eps) if spatial else nn.LayerNorm(channels, eps)
        case "group":
            return nn.GroupNorm(groups, channels, eps)
        case "instance":
            return nn.InstanceNorm2d(channels, eps, affine=True)
        case _:
            return ChannelRMS(channels, eps) if spatial else nn.RMSNorm(channels, eps)


def _norm_of(net: BuiltNetwork, channels: int, *, spatial: bool) -> nn.Module:
    return norm_twin(net.norm, channels, spatial=spatial, groups=net.groups, eps=net.eps, momentum=net.momentum)


def fully_connected_twin(net: FullyConnected, seed: int) -> nn.Module:
    blocks: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    width = net.inputs
    for number, units in enumerate(net.hidden, 1):
        name = f"layer{number}"
        inside = OrderedDict(
            weights=nn.Linear(width, units),
            norm=_norm_of(net, units, spatial=False),
            activation=nn.ReLU(),
            dropout=Masked(f"{name}.dropout", net.dropout, seed),
        )
        blocks[name], width = nn.Sequential(inside), units
    blocks["output"] = nn.Linear(width, net.classes)
    return nn.Sequential(blocks).double()


def conv_twin(net: ConvNet, seed: int) -> nn.Module:
    channels, height, width = net.image
    inside = OrderedDict(
        weights=nn.Conv2d(channels, net.filters, net.kernel, padding="same"),
        norm=_norm_of(net, net.filters, spatial=True),
        activation=nn.ReLU(),
        pool=nn.MaxPool2d(net.pool),
    )
    features = net.filters * (height // net.pool) * (width // net.pool)
    blocks = OrderedDict(layer1=nn.Sequential(inside), flatten=nn.Flatten(), output=nn.Linear(features, net.classes))
    return nn.Sequential(blocks).double()


def tensors(arrays) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values) for name, values in arrays.items()}


def twin_of(net: Network, parameters, running, *, seed: int = 0) -> nn.Module:
    """The twin, with these weights; every name and shape must fit."""
    twin = fully_connected_twin(net, seed) if isinstance(net, FullyConnected) else conv_twin(net, seed)
    twin.load_state_dict(tensors(parameters) | tensors(running))
    return twin


def loss_of(net: Network, twin: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    weights = [m.weight for m in twin.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    penalty = 0.5 * net.reg * sum((weight**2).sum() for weight in weights)
    return LOSSES[net.loss](twin(x), targets) + penalty


def digits(first: int, last: int, *, image: bool = False) -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    x = bunch.images[:, None] if image else bunch.data
    return x[first:last] / 16.0, bunch.target[first:last]


@contextmanager
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from a second thread, and wait for it when the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train_twin(net: Network, twin: nn.Module, training_set, validation_set, *, solver: Solver, batches):
    """Losses, and both metrics of every epoch, the start included, as `train` returns them."""
    how = {"lr": solver.lr, "weight_decay": solver.weight_decay, **solver.settings}
    optimizer = OPTIMIZERS[solver.optimizer](twin.parameters(), **how)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, solver.lr_decay)
    (x, targets), validation = ([torch.tensor(a) for a in pair] for pair in (training_set, validation_set))

    def judged(x: torch.Tensor, targets: torch.Tensor) -> float:
        twin.eval()
        with torch.no_grad():
            if net.loss == "mean_squared_error":
                return nn.functional.mse_loss(twin(x), targets).item()
            return (twin(x).argmax(dim=1) == targets).double().mean().item()

    losses, metrics = [], [(judged(x, targets), judged(*validation))]
    for epoch in batches:
        twin.train()
        for chosen in epoch:
            loss = loss_of(net, twin, x[chosen], targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        decay.step()
        metrics.append((judged(x, targets), judged(*validation)))
    return losses, metrics


def assert_trained_alike(ours: Trained, losses, metrics, twin: nn.Module, tolerance: float) -> None:
    assert len(ours.losses) == len(losses)
    found = list(zip(ours.train_metric, ours.validation_metric, strict=True))
    for actual, expected in ((ours.losses, losses), (found, metrics)):
        actual, expected = (torch.tensor(a, dtype=torch.float64) for a in (actual, expected))
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=0)
    state = {name: values for name, values in twin.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, values in (tensors(ours.last.parameters) | tensors(ours.last.running)).items():
        torch.testing.assert_close(values, state.pop(name), rtol=tolerance, atol=tolerance)
    assert not state
