"""The places of a model where values are recorded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import nn

from normlab import layers
from normlab.lab.models.block import Block
from normlab.lab.models.densenet import DenseLayer
from normlab.lab.models.resnet import Unit
from normlab.tools.norms import ChannelRMSNorm, ChannelsLast, NoNorm, norm_in

Kind = Literal["pre_norm", "pre_activation", "activation"]
Weights = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
# A norm outside of a block, in a network of the user's: what enters it and what leaves it are recorded.
Norm = (
    nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
    | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | ChannelRMSNorm | ChannelsLast | NoNorm
)  # fmt: skip
# Layers that compute the same in train and in eval mode; a layer that is not listed is taken to look at its mode.
MODE_FREE = {
    Block, DenseLayer, Unit, ChannelRMSNorm, ChannelsLast, NoNorm,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.Conv1d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Embedding, nn.MaxPool1d, nn.MaxPool3d, nn.Unflatten,
    layers.GroupNorm, layers.LayerNorm, layers.RMSNorm,
    nn.Conv2d, nn.Conv3d, nn.Flatten, nn.GELU, nn.GroupNorm, nn.Identity, nn.LayerNorm, nn.LeakyReLU, nn.Linear,
    nn.MaxPool2d, nn.ReLU, nn.RMSNorm, nn.Sequential, nn.SiLU, nn.Sigmoid, nn.Tanh,
}  # fmt: skip
# Layers that a run records, evenly spaced from the first to the last: a picture of more is not read, and costs.
MOST_PLACES = 24

Value = TypeVar("Value")


@dataclass(frozen=True)
class Site:
    """A layer, and what is looked at there.

    `pre_norm` is what enters the norm, `pre_activation` what enters the activation, `activation` what leaves it.
    Without a norm, or without an activation, the site is left out: it would repeat its neighbour. In a network of
    the user's, `pre_activation` is what leaves the norm.
    """

    layer: str
    kind: Kind


@dataclass(frozen=True)
class Layout:
    """What there is to watch in a model, by label, from input to output; found once, as walking a model is slow."""

    places: dict[str, nn.Module]
    weights: dict[str, Weights]
    batch_norms: dict[str, BatchNorm]
    modes_differ: bool  # whether anything in the model may look at `training`

    @classmethod
    def of(cls, model: nn.Module) -> "Layout":
        modules = dict(model.named_modules())
        holders = [module for module in modules.values() if isinstance(module, Block | ChannelsLast)]
        inside = {part for holder in holders for part in holder.modules()} - set(holders)
        places = {
            _label(name): norm_in(module)
            for name, module in modules.items()
            if isinstance(module, Block) or (isinstance(module, Norm) and module not in inside)
        }
        weights = {
            _label(name.removesuffix(".weights")): module
            for name, module in modules.items()
            # a parametrized weight is worked out anew at each use, and has no gradient of its own
            if isinstance(module, Weights)
            and isinstance(module._parameters.get("weight"), nn.Parameter)
            and module.weight.requires_grad
        }
        batch_norms = {
            _label(name.removesuffix(".norm")): module
            for name, module in modules.items()
            if isinstance(module, BatchNorm) and module.track_running_stats
        }
        watched = _spread(places)
        return cls(
            watched,
            _spread(weights),
            {label: norm for label, norm in batch_norms.items() if label in watched},
            not all(type(module) in MODE_FREE for module in modules.values()),
        )


def _spread(found: Mapping[str, Value]) -> dict[str, Value]:
    """At most `MOST_PLACES` of them, evenly spaced, the first and the last among them.

    Example:
        >>> list(_spread({str(n): n for n in range(100)}))[:3]
        ['0', '4', '9']
    """
    names = list(found)
    if len(names) > MOST_PLACES:
        names = [names[round(place * (len(names) - 1) / (MOST_PLACES - 1))] for place in range(MOST_PLACES)]
    return {name: found[name] for name in names}


def _label(name: str) -> str:
    """The name a reader sees: `layer3` → `3`, anything else as it is."""
    number = name.removeprefix("layer")
    return number if number.isdecimal() else name


@contextmanager
def watched(layout: Layout) -> Iterator[dict[Site, torch.Tensor]]:
    """Inside the context a forward pass leaves its values, by site, in the dictionary that is given.

    What leaves a norm of the user's is copied, as an activation in place or a sum may write over it.
    """
    values: dict[Site, torch.Tensor] = {}
    handles = []

    def before(module: nn.Module | None, site: Site) -> None:
        if module is not None and not isinstance(module, NoNorm):

            def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                values[site] = inputs[0].detach()

            handles.append(module.register_forward_pre_hook(keep))

    def after(module: nn.Module, site: Site, copy: bool = False) -> None:
        def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            values[site] = output.detach().clone() if copy else output.detach()

        handles.append(module.register_forward_hook(keep))

    try:
        for label, place in layout.places.items():
            if not isinstance(place, Block):
                before(place, Site(label, "pre_norm"))
                after(place, Site(label, "pre_activation"), copy=True)
                continue
            before(place.norm, Site(label, "pre_norm"))
            before(place.activation, Site(label, "pre_activation"))
            if place.activation is not None:
                after(place.activation, Site(label, "activation"))
            else:
                after(place, Site(label, "pre_activation"))
        yield values
    finally:
        for handle in handles:
            handle.remove()
