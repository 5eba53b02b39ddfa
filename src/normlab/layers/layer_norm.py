"""Layer norm, with masks."""

import torch
from torch import Tensor, nn

from normlab.kernels.pick import is_small
from normlab.ops.layer_norm import layer_norm


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm`, with masks.

    Shape:
        (*, *normalized_shape), with a mask broadcastable to it → the same.

    Args:
        normalized_shape: the last dimensions of the input, which share a mean and a variance.
        eps: added to the variance.
        elementwise_affine: whether there are `weight` and `bias`.
        bias: whether there is a `bias` beside the `weight`.
        device: where the parameters lie.
        dtype: of the parameters.

    Source:
        Ba, Kiros & Hinton (2016), equations 3 and 4.

    Example:
        >>> import torch
        >>> layer = LayerNorm(5, eps=0.5)
        >>> layer(torch.tensor([[1.0, 2.0, 3.0, 6.0, torch.nan]]), mask=torch.arange(5) < 4).detach()
        tensor([[-1.0000, -0.5000,  0.0000,  1.5000,  0.0000]])
    """

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None and is_small("layer_norm", input):
            cudnn = not input.is_cpu and torch.backends.cudnn.enabled  # asking costs 3 µs
            return torch.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps, cudnn)
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, eps=self.eps, mask=mask)
