"""Group norm, with masks."""

import torch
from torch import Tensor, nn

from normlab.kernels.pick import is_small
from normlab.ops.group_norm import group_norm


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, with masks.

    Shape:
        (N, C, *S), with a mask broadcastable to (N, *S) → the same.

    Args:
        num_groups: into how many groups the channels are split.
        num_channels: channels.
        eps: added to the variance.
        affine: whether there are `weight` and `bias`.
        device: where the parameters lie.
        dtype: of the parameters.
        bias: whether there is a `bias` beside the `weight`.

    Source:
        Wu & He (2018), equation 7.

    Example:
        >>> import torch
        >>> layer = GroupNorm(1, 2, eps=0.5)
        >>> x = torch.tensor([[[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]])
        >>> layer(x, mask=torch.tensor([True, True, False])).detach()
        tensor([[[-1.0000, -0.5000,  3.0000],
                 [ 0.0000,  1.5000,  3.0000]]])
    """

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        # what PyTorch refuses, one value in all of a group, is left to `torch.nn.functional`
        if mask is None and is_small("group_norm", input) and input.ndim > 1 and input.numel() != self.num_groups:
            cudnn = not input.is_cpu and torch.backends.cudnn.enabled
            return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps, cudnn)
        return group_norm(input, self.num_groups, self.weight, self.bias, eps=self.eps, mask=mask)
