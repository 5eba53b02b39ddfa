"""Where a norm stands in a model: the order of the dimensions of its input, and what can be built there."""

import math
from dataclasses import dataclass

from torch import nn

from normlab import layers
from normlab.tools.kinds import kind_of, own_type
from normlab.tools.norms import ChannelsLast, Where, norm_in
from normlab.tools.reached import Reached

# how many dimensions of positions a layer says it takes; BatchNorm1d takes none or one
SPATIAL: dict[type[nn.Module], int] = {
    nn.BatchNorm2d: 2, nn.BatchNorm3d: 3, nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3,
    layers.BatchNorm2d: 2, layers.BatchNorm3d: 3,
    layers.InstanceNorm1d: 1, layers.InstanceNorm2d: 2, layers.InstanceNorm3d: 3,
}  # fmt: skip
ANY_SPATIAL = ("layer", "group", "rms")  # channels first, these are one layer whatever the number of dimensions
UNSEEN = "the number of dimensions of its input is not known: pass an example"


@dataclass(frozen=True)
class Place:
    """What to build, and how its input is turned round: channels last, and which dimension the samples are in."""

    where: Where
    last: bool = False
    samples: int = 0


def place_of(module: nn.Module, to: str, seen: Reached | None) -> Place | str:
    """The place that a norm of kind `to` would take over, or why it cannot be told.

    Args:
        module: a norm of a known kind.
        to: the kind that is wanted.
        seen: the input of the module, if it is known.
    """
    norm = norm_in(module)
    if getattr(norm, "axis", 1) != 1:
        return f"its channels are in dimension {norm.axis}"
    affine = getattr(norm, "weight", None) is not None
    bias = kind_of(norm) == "rms" or getattr(norm, "bias", None) is not None  # rms norm has none to be left out
    shape = getattr(norm, "normalized_shape", ())
    if len(shape) == 1 or isinstance(module, ChannelsLast):
        return _over_the_last(_channels(norm), to, seen, affine, bias)
    if shape:
        return _over_the_sample(shape, seen, affine, bias)
    return _over_channels(norm, to, seen, affine, bias)


def _over_the_last(channels: int, to: str, seen: Reached | None, affine: bool, bias: bool) -> Place | str:
    if to in ("layer", "rms"):
        return Place(Where(channels, 0, affine, bias, positions=1))
    if seen is None:
        return UNSEEN
    dimensions = _dimensions(seen)
    if isinstance(dimensions, str):
        return dimensions
    samples = 0 if seen.samples is None and to == "batch" else seen.samples
    if samples is None:
        return "the samples of its input are in several dimensions"
    if samples == dimensions - 1:
        return "the samples of its input are in the dimension of the channels"
    positions = min(math.prod(each) // (channels * each[samples] or 1) for each in seen.shapes)
    return Place(Where(channels, dimensions - 2, affine, bias, positions), last=True, samples=samples)


def _over_the_sample(shape: tuple[int, ...], seen: Reached | None, affine: bool, bias: bool) -> Place | str:
    if seen is None:
        return UNSEEN
    if any(each[1:] != tuple(shape) for each in seen.shapes) or seen.samples != 0:
        return (
            f"it normalizes over the last {len(shape)} dimensions of an input {seen.shapes[0]}, as no other norm does"
        )
    return Place(Where(shape[0], len(shape) - 1, affine, bias, math.prod(shape[1:])))


def _over_channels(norm: nn.Module, to: str, seen: Reached | None, affine: bool, bias: bool) -> Place | str:
    channels = _channels(norm)
    spatial = SPATIAL.get(own_type(norm))
    if seen is None:
        if spatial is None and to not in ANY_SPATIAL:
            return UNSEEN
        # group norm is the same layer for any number, and might find no positions: then its groups need two channels
        unknown = 0 if to == "group" else 1
        return Place(Where(channels, unknown if spatial is None else spatial, affine, bias))
    dimensions = _dimensions(seen)
    if isinstance(dimensions, str):
        return dimensions
    if spatial is not None and dimensions != spatial + 2:
        return f"its input has {dimensions} dimensions, and so none for the samples"
    if seen.samples != 0 and to != "batch":
        return "the samples of its input are not in the first dimension"
    positions = min(math.prod(each[2:]) for each in seen.shapes)
    return Place(Where(channels, dimensions - 2, affine, bias, positions))


def _dimensions(seen: Reached) -> int | str:
    found = sorted({len(each) for each in seen.shapes})
    if len(found) > 1:
        return f"its input has now {found[0]} dimensions, now {found[-1]}"
    return found[0] if found[0] > 1 else "its input has one dimension"


def _channels(norm: nn.Module) -> int:
    if isinstance(norm, nn.LayerNorm | nn.RMSNorm):
        return int(norm.normalized_shape[0])
    return int(
        next(getattr(norm, name) for name in ("num_features", "num_channels", "channels") if hasattr(norm, name))
    )
