"""Layer norm, with masks."""

from torch import Tensor, nn

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
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, eps=self.eps, mask=mask)
