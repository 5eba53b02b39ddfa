"""What bounds any norm that is called from Python: layers that do nothing, and such that only move their bytes."""

from typing import Any

import torch
from torch import Tensor, nn

from normlab.kernels import alloc
from normlab.layers.batch_norm import BatchNormOptions


class Nothing(torch.autograd.Function):
    """Takes what a norm takes, keeps x, and returns what is there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.detach()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        _, weight = ctx.saved_tensors
        return dy, weight, weight


class Called(nn.Module):
    """A layer that does nothing, with parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Nothing.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return y


class Moved(torch.autograd.Function):
    """Reads and writes each value as often as a norm has to, in PyTorch's operations, into memory as ours gets it.

    Forward reads x, and the residual, and writes y; backward reads dy and x and writes dx, which serves the residual.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.added = residual is not None
        y = alloc.empty_like(x)
        return y.copy_(x) if residual is None else torch.add(x, residual, out=y)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = torch.add(dy, x, out=alloc.empty_like(x))
        return dx, weight, weight, dx if ctx.added else None


def move_only_(model: nn.Module) -> None:
    """Has each batch norm of a model, and what is fused with it, do no more than move its bytes."""
    for layer in model.modules():
        if isinstance(layer, BatchNormOptions):
            layer.forward = _mover(layer)  # type: ignore[method-assign]


def _mover(layer: BatchNormOptions) -> Any:
    def forward(x: Tensor, residual: Tensor | None = None) -> Any:
        return Moved.apply(x, layer.weight, layer.bias, residual)  # type: ignore[no-untyped-call]

    return forward
