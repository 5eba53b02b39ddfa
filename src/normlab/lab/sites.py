"""The places of a model where values are recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from normlab.lab.models.block import Block
from normlab.lab.norms import ChannelRMSNorm

Kind = Literal["pre_norm", "pre_activation", "activation"]
# Layers that compute the same in train and in eval mode; a layer that is not listed is taken to look at its mode.
MODE_FREE = {
    Block, ChannelRMSNorm, nn.AdaptiveAvgPool2d, nn.Conv2d, nn.Flatten, nn.GroupNorm, nn.LayerNorm, nn.Linear,
    nn.ReLU, nn.RMSNorm, nn.Sequential, nn.Sigmoid, nn.Tanh,
}  # fmt: skip
Weights = nn.Linear | nn.Conv2d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@dataclass(frozen=True)
class Site:
    """A layer, and what is looked at there.

    `pre_norm` is what enters the norm, `pre_activation` what enters the activation, `activation` what leaves it.
    Without a norm, or without an activation, the site is left out: it would repeat its neighbour.
    """

    layer: str
    kind: Kind


@dataclass(frozen=True)
class Layout:
    """What there is to watch in a model, by label, from input to output; found once, as walking a model is slow."""

    blocks: dict[str, Block]
    weights: dict[str, Weights]
    batch_norms: dict[str, BatchNorm]
    modes_differ: bool  # whether anything in the model may look at `training`

    @classmethod
    def of(cls, model: nn.Module) -> "Layout":
        modules = dict(model.named_modules())
        return cls(
            {_label(name): module for name, module in modules.items() if isinstance(module, Block)},
            {
                _label(name.removesuffix(".weights")): module
                for name, module in modules.items()
                if isinstance(module, Weights)
            },
            {
                _label(name.removesuffix(".norm")): module
                for name, module in modules.items()
                if isinstance(module, BatchNorm)
            },
            not all(type(module) in MODE_FREE for module in modules.values()),
        )


def _label(name: str) -> str:
    """The name a reader sees: `layer3` → `3`, anything else as it is."""
    return name.removeprefix("layer")


@contextmanager
def watched(layout: Layout) -> Iterator[dict[Site, torch.Tensor]]:
    """Inside the context a forward pass leaves its values, by site, in the dictionary that is given."""
    values: dict[Site, torch.Tensor] = {}
    handles = []

    def before(module: nn.Module | None, site: Site) -> None:
        if module is not None:

            def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                values[site] = inputs[0].detach()

            handles.append(module.register_forward_pre_hook(keep))

    def after(module: nn.Module, site: Site) -> None:
        def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            values[site] = output.detach()

        handles.append(module.register_forward_hook(keep))

    try:
        for label, block in layout.blocks.items():
            before(block.norm, Site(label, "pre_norm"))
            before(block.activation, Site(label, "pre_activation"))
            if block.activation is not None:
                after(block.activation, Site(label, "activation"))
            else:
                after(block, Site(label, "pre_activation"))
        yield values
    finally:
        for handle in handles:
            handle.remove()
