"""The layers that take a mask, each beside the reference."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tests.layers.oracle import learned, random
from torch import nn

from normlab import layers, reference

# Of positions: all are real, three, one, none.
POSITIONS = torch.arange(5) < torch.tensor([[5], [3], [1], [0]])
# Of elements, in any order: some, all, one, none.
ELEMENTS = torch.stack(
    [random(6, 5) > 0, torch.ones(6, 5).bool(), torch.arange(30).view(6, 5) == 7, torch.zeros(6, 5) > 0]
)
SHAPE = (4, 6, 5)


@dataclass(frozen=True)
class Masked:
    """A layer, and its forward and gradients by the reference, as functions of arrays."""

    name: str
    make: Callable[[], nn.Module]
    mask: torch.Tensor
    forward: Callable[..., np.ndarray]
    vjp: Callable[..., Any]

    def built(self) -> nn.Module:
        return learned(self.make().double())

    @property
    def real(self) -> torch.Tensor:
        """The mask as large as x."""
        return (self.mask if self.mask.ndim == 3 else self.mask[:, None]).expand(SHAPE)

    def expected(self, layer: nn.Module, x: torch.Tensor, dy: torch.Tensor, mask: torch.Tensor) -> list[np.ndarray]:
        """y, dx, dweight and dbias."""
        learned = [each.detach().numpy() for each in layer.parameters()]
        how = {"mask": mask.numpy()}
        found = self.vjp(dy.numpy(), x.numpy(), *learned, **how)
        return [self.forward(x.numpy(), *learned, **how), *(each for each in found if each is not None)]


def _of(name: str, *between: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    forward, vjp = getattr(reference, name), getattr(reference, f"{name}_vjp")
    return (
        lambda x, *learned, mask: forward(x, *between, *learned, mask=mask),
        lambda dy, x, *learned, mask: vjp(dy, x, *between, *learned, mask=mask),
    )


MASKED = (
    Masked("batch", lambda: layers.BatchNorm1d(6), POSITIONS, *_of("batch_norm")),
    Masked("batch without bias", lambda: layers.BatchNorm1d(6, bias=False), POSITIONS, *_of("batch_norm")),
    Masked("instance", lambda: layers.InstanceNorm1d(6, affine=True, track_running_stats=True), POSITIONS,
           *_of("instance_norm")),
    Masked("instance, plain", lambda: layers.InstanceNorm1d(6), POSITIONS, *_of("instance_norm")),
    Masked("group", lambda: layers.GroupNorm(3, 6), POSITIONS, *_of("group_norm", 3)),
    Masked("layer", lambda: layers.LayerNorm(5), ELEMENTS, *_of("layer_norm", 5)),
    Masked("layer of two dimensions", lambda: layers.LayerNorm((6, 5)), ELEMENTS, *_of("layer_norm", (6, 5))),
    Masked("rms", lambda: layers.RMSNorm(5), ELEMENTS, *_of("rms_norm", 5)),
)  # fmt: skip
