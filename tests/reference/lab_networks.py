"""The networks of the lab twice: of layers of the reference, and of torch's own modules under the same names."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from tests.reference.twins import Masked, norm_twin
from torch import nn

from normlab.reference import (
    Layer,
    Sequential,
    activation_layer,
    conv_layer,
    dropout_layers,
    flatten_layer,
    global_avg_pool_layer,
    linear_layer,
    norm_layers,
)

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "leaky_relu": lambda: nn.LeakyReLU(0.2)}


@dataclass(frozen=True)
class Setup:
    """What the two have in common."""

    norm: str | None = None
    activation: str = "tanh"
    input_norm: bool = False
    bias: bool = True  # of the linear maps before a norm
    dropout: float = 0.0
    depth: int = 2
    width: int = 6
    inputs: int = 2  # values, or channels
    outputs: int = 3
    norm_settings: dict[str, Any] = field(default_factory=dict)  # groups, eps, momentum

    def norm_of(self, name: str, channels: int) -> tuple[Layer, ...]:
        return norm_layers(name, self.norm, channels, **self.norm_settings)

    def twin_of_norm(self, channels: int, *, spatial: bool) -> nn.Module:
        return norm_twin(self.norm, channels, spatial=spatial, **self.norm_settings)


def mlp(setup: Setup, **network) -> Sequential:
    layers = [flatten_layer("flatten")]
    if setup.input_norm:
        layers += setup.norm_of("input.norm", setup.inputs)
    for number in range(1, setup.depth + 1):
        inputs = setup.inputs if number == 1 else setup.width
        layers.append(linear_layer(f"layer{number}.weights", inputs, setup.width, bias=setup.bias))
        layers += _after_weights(setup, f"layer{number}")
    return Sequential((*layers, linear_layer("output", setup.width, setup.outputs)), **network)


def conv_net(setup: Setup, **network) -> Sequential:
    layers = list(setup.norm_of("input.norm", setup.inputs)) if setup.input_norm else []
    for number in range(1, setup.depth + 1):
        channels = setup.inputs if number == 1 else setup.width
        layers.append(conv_layer(f"layer{number}.weights", channels, setup.width, 3, bias=setup.bias))
        layers += _after_weights(setup, f"layer{number}")
    layers += [global_avg_pool_layer("pool"), linear_layer("output", setup.width, setup.outputs)]
    return Sequential(tuple(layers), **network)


def _after_weights(setup: Setup, name: str) -> list[Layer]:
    return [
        *setup.norm_of(f"{name}.norm", setup.width),
        activation_layer(f"{name}.activation", setup.activation),
        *dropout_layers(f"{name}.dropout", setup.dropout),
    ]


def mlp_twin(setup: Setup, seed: int) -> nn.Module:
    blocks: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if setup.input_norm:
        blocks["input"] = nn.Sequential(OrderedDict(norm=setup.twin_of_norm(setup.inputs, spatial=False)))
    for number in range(1, setup.depth + 1):
        weights = nn.Linear(setup.inputs if number == 1 else setup.width, setup.width, bias=setup.bias)
        blocks[f"layer{number}"] = _block(setup, f"layer{number}", weights, seed, spatial=False)
    blocks["output"] = nn.Linear(setup.width, setup.outputs)
    return nn.Sequential(blocks).double()


def conv_twin(setup: Setup, seed: int) -> nn.Module:
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    if setup.input_norm:
        blocks["input"] = nn.Sequential(OrderedDict(norm=setup.twin_of_norm(setup.inputs, spatial=True)))
    for number in range(1, setup.depth + 1):
        channels = setup.inputs if number == 1 else setup.width
        weights = nn.Conv2d(channels, setup.width, kernel_size=3, padding=1, bias=setup.bias)
        blocks[f"layer{number}"] = _block(setup, f"layer{number}", weights, seed, spatial=True)
    blocks["pool"] = nn.AdaptiveAvgPool2d(1)
    blocks["flatten"] = nn.Flatten()
    blocks["output"] = nn.Linear(setup.width, setup.outputs)
    return nn.Sequential(blocks).double()


def _block(setup: Setup, name: str, weights: nn.Module, seed: int, *, spatial: bool) -> nn.Module:
    inside = OrderedDict(
        weights=weights,
        norm=setup.twin_of_norm(setup.width, spatial=spatial),
        activation=ACTIVATIONS[setup.activation](),
    )
    if setup.dropout:
        inside["dropout"] = Masked(f"{name}.dropout", setup.dropout, seed)
    return nn.Sequential(inside)
