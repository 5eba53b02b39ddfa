"""What the tests of the layers hold against each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tests.tolerances import TORCH
from torch import nn


def close(found: Any, expected: Any, tolerance: float = TORCH) -> None:
    """Of any two arrays, whatever their dtypes."""
    one, other = (
        each.detach().double() if isinstance(each, torch.Tensor) else torch.from_numpy(np.asarray(each, np.float64))
        for each in (found, expected)
    )
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def random(*shape: int, seed: int = 0, mean: float = 0.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (mean + torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def learned(layer: nn.Module, seed: int = 3) -> nn.Module:
    """With weights that are not 1 and 0."""
    with torch.no_grad():
        for number, each in enumerate(layer.parameters()):
            each.copy_(random(*each.shape, seed=seed + number))
    return layer


def passed(layer: Callable[..., torch.Tensor], x: torch.Tensor, dy: torch.Tensor, **how: Any) -> list[torch.Tensor]:
    """y, dx, and the gradients of the parameters."""
    parameters = [*layer.parameters()] if isinstance(layer, nn.Module) else []
    leaf = x.detach().clone().requires_grad_()
    y = layer(leaf, **how)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *parameters], dy)]


def statistics(layer: nn.Module) -> dict[str, torch.Tensor]:
    """The running statistics, and what else is kept of them."""
    return {name: value.clone() for name, value in layer.named_buffers()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """To the bit."""
    return list(one) == list(other) and all(
        torch.equal(one[name].nan_to_num(), other[name].nan_to_num()) for name in one
    )
