"""One hidden layer: weights, norm, activation, each a submodule that can be watched."""

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class Block(nn.Module):
    """`weights` → `norm` → `activation` → `dropout`; the normalized input is a block with a norm alone."""

    def __init__(
        self, weights: nn.Module | None, norm: nn.Module | None, activation: str | None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.weights = weights
        self.norm = norm
        self.activation = ACTIVATIONS[activation]() if activation else None
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in (self.weights, self.norm, self.activation, self.dropout):
            if step is not None:
                x = step(x)
        return x
