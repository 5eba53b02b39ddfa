"""Networks as people write them: what follows a batch norm is a layer, a function, a sum, in place or not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """As torchvision's `BasicBlock`: one ReLU for all, in place, and a sum in place."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample = None
        if channels != out or stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Dense(nn.Module):
    """As torchvision's `_DenseLayer`: takes a list or a tensor, and decides by that."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, 1, 1, bias=False)
        self.drop_rate = 0.2

    def bn_function(self, inputs: list[Tensor]) -> Tensor:
        return self.conv1(self.relu1(self.norm1(torch.cat(inputs, 1))))

    def forward(self, input: Any) -> Tensor:
        features = [input] if isinstance(input, Tensor) else input
        new = self.conv2(self.relu2(self.norm2(self.bn_function(features))))
        if self.drop_rate > 0:
            new = functional.dropout(new, p=self.drop_rate, training=self.training)
        return new


class DenseBlock(nn.ModuleDict):
    """As torchvision's `_DenseBlock`: a list with a forward, here with a norm at its end."""

    def __init__(self) -> None:
        super().__init__({f"layer{each}": Dense(4 + 4 * each, 4) for each in range(2)})
        self.add_module("norm", nn.BatchNorm2d(12))

    def forward(self, x: Tensor) -> Tensor:
        features = [x, self["layer0"]([x])]
        features.append(self["layer1"](features))
        return self["norm"](torch.cat(features, 1))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(DenseBlock())
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.relu(self.features(x), inplace=True).mean((2, 3)))


class Functions(nn.Module):
    """Each way in which a function is called."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(8))
        self.norms = nn.ModuleList(nn.BatchNorm1d(5) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norms[0](self.layers[0](x)), inplace=True)
        x = torch.relu(self.norms[1](self.layers[1](x)))
        x = self.norms[2](self.layers[2](x)).relu()
        x = self.norms[3](self.layers[3](x)).relu_()
        x = functional.leaky_relu(self.norms[4](self.layers[4](x)), 0.2)
        x = functional.silu(self.norms[5](self.layers[5](x)))
        x = functional.gelu(self.norms[6](self.layers[6](x)))
        return functional.gelu(self.norms[7](self.layers[7](x)), approximate="tanh")


class Sums(nn.Module):
    """A sum and nothing else, sums of two norms, a norm at the right, an activation before the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.bn1, self.bn2, self.bn3, self.bn4, self.bn5 = (nn.BatchNorm2d(3) for _ in range(5))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.bn1(self.convs[0](x))
        x = self.act(torch.add(self.bn2(self.convs[1](x)), self.bn3(self.convs[2](x))))
        x = self.convs[3](self.act(self.bn4(x)))
        return self.bn5(x).add_(x)


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(5, 5), nn.Linear(5, 5)
        self.bn1, self.bn2 = nn.BatchNorm1d(5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.linear2(functional.silu(self.bn1(self.linear1(x)))))


class Nested(nn.Module):
    """A forward that is rewritten, within another one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0
        self.body = nn.Sequential(nn.Linear(5, 5), Body())

    def forward(self, x: Tensor, *, factor: float = 0.5) -> Tensor:
        return functional.gelu(self.body(x) + x * factor) * self.scale


class Shared(nn.Module):
    """Heads that are called for every level, with one activation for all norms."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.head = nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), relu, nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3), relu
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.head(x), self.head(x[..., ::2])]


def chain() -> nn.Module:
    """Chains in chains, every activation, and dropout between norm and ReLU."""
    return nn.Sequential(
        nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)), nn.LeakyReLU(0.3),
        nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4), nn.Identity(), nn.SiLU(inplace=True),
        nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4), nn.GELU(),
        nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4), nn.Dropout(0.3), nn.ReLU(),
        nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4), nn.Dropout(0.3), nn.GELU(),
        nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4), nn.Tanh(),
        nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4), nn.GELU("tanh"),
    )  # fmt: skip


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


RELU, ADD_RELU = "ours, with relu", "ours, with add and relu"
# how it is built, an example, and what becomes of its norms
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, list[str]]] = {
    "residual": (
        lambda: nn.Sequential(Residual(3, 3), Residual(3, 4, 2)),
        image(4, 3, 6, 6),
        [RELU, ADD_RELU, RELU, ADD_RELU, "ours"],
    ),
    "functions": (
        Functions,
        image(6, 5),
        [*[RELU] * 4, "ours, with leaky_relu", "ours, with silu", "ours, with gelu", "ours"],
    ),
    "nested": (Nested, image(6, 5), ["ours, with silu", "ours, with add and gelu"]),
    "sums": (
        Sums,
        image(4, 3, 5, 5),
        ["ours, with add", "ours", "ours, with add and silu", "ours, with silu", "ours, with add"],
    ),
    "chain": (
        chain,
        image(4, 3, 2, 3, 2),
        ["ours, with leaky_relu", "ours, with silu", "ours, with gelu", RELU, "ours", "ours", "ours"],
    ),
}
# those of which only an example shows enough
SHOWN: dict[str, tuple[Callable[[], nn.Module], Tensor, list[str]]] = {
    "dense": (DenseNet, image(4, 4, 5, 5), [RELU] * 5),
    "shared": (Shared, image(4, 3, 4, 4), [RELU] * 2),
}
