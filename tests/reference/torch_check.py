"""Values and gradients of one of our ops against its twin in torch, under a random gradient from above."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tests.tolerances import TORCH


def assert_near(actual: Any, expected: Any, atol: float) -> None:
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=0, atol=atol)


def assert_as_torch(
    f: Callable[..., Any],
    vjp: Callable[..., tuple[Any, ...]],
    twin: Callable[..., torch.Tensor],
    *inputs: np.ndarray,
    atol: float = TORCH,
) -> None:
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    y = twin(*leaves)
    dy = np.random.default_rng(7).standard_normal(tuple(y.shape))
    y.backward(torch.tensor(dy))
    assert_near(np.asarray(f(*inputs)), y.detach(), atol)
    gradients = vjp(dy, *inputs)
    assert len(gradients) == len(inputs)
    for ours, leaf in zip(gradients, leaves, strict=True):
        assert_near(ours, leaf.grad, atol)
