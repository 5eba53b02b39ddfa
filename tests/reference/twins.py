"""Networks of the reference as modules of torch, built from torch's own layers by hand, and trained by torch."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from normlab.reference import ConvNet, FullyConnected, Network, Solver, Trained, dropout, dropout_seed

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": lambda *a, momentum=0.9, **how: torch.optim.SGD(*a, momentum=momentum, **how),
    "rmsprop": torch.optim.RMSprop,
    "adam": lambda *a, beta1=0.9, beta2=0.999, **how: torch.optim.Adam(*a, betas=(beta1, beta2), **how),
}


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


def fully_connected_twin(net: FullyConnected, seed: int) -> nn.Module:
    norms = {
        None: nn.Identity,
        "batch": nn.BatchNorm1d,
        "layer": nn.LayerNorm,
        "group": lambda units: nn.GroupNorm(net.groups, units),
    }
    blocks: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    width = net.inputs
    for number, units in enumerate(net.hidden, 1):
        name = f"layer{number}"
        inside = OrderedDict(
            weights=nn.Linear(width, units),
            norm=norms[net.norm](units),
            activation=nn.ReLU(),
            dropout=Masked(f"{name}.dropout", net.dropout, seed),
        )
        blocks[name], width = nn.Sequential(inside), units
    blocks["output"] = nn.Linear(width, net.classes)
    return nn.Sequential(blocks).double()


def conv_twin(net: ConvNet, seed: int) -> nn.Module:
    channels, height, width = net.image
    norm: nn.Module = {
        None: nn.Identity(),
        "batch": nn.BatchNorm2d(net.filters),
        "group": nn.GroupNorm(net.groups, net.filters),
        "layer": nn.GroupNorm(1, net.filters),
    }[net.norm]
    inside = OrderedDict(
        weights=nn.Conv2d(channels, net.filters, net.kernel, padding="same"),
        norm=norm,
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


def loss_of(net: Network, twin: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    weights = [m.weight for m in twin.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    penalty = 0.5 * net.reg * sum((weight**2).sum() for weight in weights)
    return nn.functional.cross_entropy(twin(x), labels) + penalty


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
    """Losses, and both accuracies of every epoch, the start included, as `train` returns them."""
    optimizer = OPTIMIZERS[solver.optimizer](twin.parameters(), lr=solver.lr, **solver.settings)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, solver.lr_decay)
    (x, labels), validation = ([torch.tensor(a) for a in pair] for pair in (training_set, validation_set))

    def judged(x: torch.Tensor, labels: torch.Tensor) -> float:
        twin.eval()
        with torch.no_grad():
            return (twin(x).argmax(dim=1) == labels).double().mean().item()

    losses, accuracies = [], [(judged(x, labels), judged(*validation))]
    for epoch in batches:
        twin.train()
        for chosen in epoch:
            loss = loss_of(net, twin, x[chosen], labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        decay.step()
        accuracies.append((judged(x, labels), judged(*validation)))
    return losses, accuracies


def assert_trained_alike(ours: Trained, losses, accuracies, twin: nn.Module, tolerance: float) -> None:
    assert len(ours.losses) == len(losses)
    assert list(zip(ours.train_accuracy, ours.validation_accuracy, strict=True)) == accuracies
    torch.testing.assert_close(
        torch.tensor(ours.losses, dtype=torch.float64),
        torch.tensor(losses, dtype=torch.float64),
        rtol=tolerance,
        atol=0,
    )
    state = {name: values for name, values in twin.state_dict().items() if not name.endswith("num_batches_tracked")}
    for name, values in (tensors(ours.last.parameters) | tensors(ours.last.running)).items():
        torch.testing.assert_close(values, state.pop(name), rtol=tolerance, atol=tolerance)
    assert not state
