"""Zeros that a convolution puts around its input, when the norm before it is folded into it."""

import torch
from torch import nn

from normlab.tools.fold_maths import SPATIAL_CONV, TRANSPOSED, Affine


class ChannelPad(nn.Module):
    """Puts a border around each channel, with a value of its own.

    A norm maps x to x · scale + shift, and zeros around its output are what −shift / scale is around its input. With
    that border the convolution after it needs no padding, and the norm can be folded into it exactly.

    Shape:
        (N, C, *) or (C, *) → the same, longer by `pads`.
    """

    value: torch.Tensor

    def __init__(self, value: torch.Tensor, pads: list[int]) -> None:
        super().__init__()
        self.register_buffer("value", value)
        self.pads = list(pads)  # in the order of torch.nn.functional.pad: last dimension first, before and after

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        spatial = len(self.pads) // 2
        outside = torch.zeros(input.shape[-spatial:], dtype=torch.bool, device=input.device)
        outside = nn.functional.pad(outside, self.pads, value=True)
        return torch.where(outside, self.value.view(-1, *[1] * spatial), nn.functional.pad(input, self.pads))

    def extra_repr(self) -> str:
        return f"{len(self.value)}, pads={self.pads}"


def has_border(layer: nn.Module, norm: Affine) -> bool:
    """Whether outputs at the border see fewer values of the norm than the others, or zeros beside them.

    Padding that repeats what is there is taken from the norm's own values, and a norm that maps zero to zero is right
    beyond the border too.

    Example:
        >>> zero, one = torch.zeros(2), torch.ones(2)
        >>> [has_border(nn.Conv1d(2, 2, 3, padding=1), Affine(zero, one, bias)) for bias in (zero, one)]
        [False, True]
    """
    if isinstance(layer, nn.Linear) or not norm.shift.any():
        return False
    if isinstance(layer, TRANSPOSED):
        sizes = (*layer.kernel_size, *layer.stride, *(1 + each for each in layer.output_padding))
        return any(each != 1 for each in sizes)
    return pads_with_zeros(layer)


def pads_with_zeros(layer: nn.Module) -> bool:
    """Whether a convolution, not a transposed one, puts zeros around its input."""
    if isinstance(layer, (nn.Linear, *TRANSPOSED)):
        return False
    return getattr(layer, "padding_mode", "zeros") == "zeros" and any(_pads(layer))


def why_not_padded(layer: nn.Module, norm: Affine) -> str:
    """Why no border around the input of the norm makes up for that; empty if one does."""
    if isinstance(layer, TRANSPOSED):
        return "a transposed convolution has no border to pad"
    lost = ((norm.scale == 0) & (norm.shift != 0)).nonzero().flatten().tolist()
    return f"channel {lost[0]} of the norm has the weight zero, so that no border is mapped to zero" if lost else ""


def border_for(layer: nn.Module, norm: Affine) -> ChannelPad:
    """What stands in the place of the norm, so that the layer needs no padding of its own."""
    weight = layer.get_parameter("weight")
    value = torch.where(norm.shift == 0, 0.0, -norm.shift / norm.scale)
    return ChannelPad(value.to(device=weight.device, dtype=weight.dtype), _pads(layer))


def take_padding_away(layer: nn.Module) -> None:
    """The convolution adds no zeros any more."""
    spatial = next(number for base, number in SPATIAL_CONV.items() if isinstance(layer, base))
    layer.padding = (0,) * spatial  # type: ignore[assignment]
    layer._reversed_padding_repeated_twice = [0] * (2 * spatial)  # type: ignore[assignment]


def _pads(layer: nn.Module) -> list[int]:
    return list(layer._reversed_padding_repeated_twice)  # type: ignore[arg-type]
