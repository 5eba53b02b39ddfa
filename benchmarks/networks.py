"""ResNet-50 and DenseNet-121, whole, as torchvision builds them: what a training step is measured on."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.shapes import BETWEEN, DENSENET121, GROWTH, RESNET50, START, WIDER

CLASSES = 1000


class Bottleneck(nn.Module):
    """Three convolutions, each with a norm, and a shortcut around them.

    Shape:
        (N, inputs, H, W) → (N, 4 · between, H / stride, W / stride).
    """

    def __init__(self, inputs: int, between: int, stride: int) -> None:
        super().__init__()
        outputs = WIDER * between
        self.conv1, self.bn1 = nn.Conv2d(inputs, between, 1, bias=False), nn.BatchNorm2d(between)
        self.conv2 = nn.Conv2d(between, between, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(between)
        self.conv3, self.bn3 = nn.Conv2d(between, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if inputs != outputs or stride != 1:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        kept: Tensor = self.relu(out)
        return kept


def resnet50() -> nn.Module:
    """Shape:
        (N, 3, H, W) → (N, 1000).

    Source:
        He et al. 2015, table 1; the stride in the second convolution, as torchvision has it.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    channels = 64
    for stage, (bottlenecks, between) in enumerate(RESNET50):
        strides = [2 if stage and number == 0 else 1 for number in range(bottlenecks)]
        blocks = []
        for stride in strides:
            blocks.append(Bottleneck(channels, between, stride))
            channels = WIDER * between
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    return nn.Sequential(layers | _head(channels))


class DenseLayer(nn.Module):
    """32 new channels from all earlier ones, through 128.

    Shape:
        (N, C, H, W) → (N, C + 32, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels, BETWEEN, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(BETWEEN), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(BETWEEN, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        between = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(between)))], dim=1)


def densenet121() -> nn.Module:
    """Shape:
        (N, 3, H, W) → (N, 1000).

    Source:
        Huang et al. 2017, table 1. Each layer joins all earlier outputs once, where torchvision joins a list anew: the
        same values, and the same tensors for the norms.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(3, START, 7, stride=2, padding=3, bias=False),
        norm0=nn.BatchNorm2d(START),
        relu0=nn.ReLU(inplace=True),
        pool0=nn.MaxPool2d(3, stride=2, padding=1),
    )
    channels = START
    for block, size in enumerate(DENSENET121, start=1):
        layers[f"denseblock{block}"] = nn.Sequential(*(DenseLayer(channels + GROWTH * at) for at in range(size)))
        channels += GROWTH * size
        if block < len(DENSENET121):
            layers[f"transition{block}"] = nn.Sequential(
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels // 2, 1, bias=False),
                nn.AvgPool2d(2),
            )
            channels //= 2
    layers["norm5"], layers["relu5"] = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    return nn.Sequential(layers | _head(channels))


def _head(channels: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), output=nn.Linear(channels, CLASSES))


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """What a step minimizes."""
    return functional.cross_entropy(model(images), labels)


NETWORKS = {"ResNet-50": resnet50, "DenseNet-121": densenet121}
