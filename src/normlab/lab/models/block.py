"""One hidden layer: weights, norm, activation, each a submodule that can be watched."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from normlab.lab.models.seeded_dropout import SeededDropout

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": partial(nn.LeakyReLU, 0.2),
}


class Block(nn.Module):
    """`weights` → `norm` → `activation` → `dropout`, or the weights after the activation.

    Any of them may be missing: the normalized input is a block with a norm alone.
    """

    def __init__(
        self,
        weights: nn.Module | None,
        norm: nn.Module | None,
        activation: str | None,
        dropout: float = 0.0,
        *,
        weights_last: bool = False,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.norm = norm
        self.activation = ACTIVATIONS[activation]() if activation else None
        self.dropout = SeededDropout(dropout) if dropout else None
        self.weights_last = weights_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = (self.weights, self.norm, self.activation)
        if self.weights_last:
            steps = (self.norm, self.activation, self.weights)
        for step in (*steps, self.dropout):
            if step is not None:
                x = step(x)
        return x
