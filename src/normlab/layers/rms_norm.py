"""RMS norm, with masks."""

import torch
from torch import Tensor, nn

from normlab.kernels.pick import is_small
from normlab.ops.rms_norm import rms_norm


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm`, with masks.

    Shape:
        (*, *normalized_shape), with a mask broadcastable to it → the same.

    Args:
        normalized_shape: the last dimensions of the input, which share a root mean square.
        eps: added to the mean square; None for the smallest step of the dtype.
        elementwise_affine: whether there is a `weight`.
        device: where the parameters lie.
        dtype: of the parameters.

    Source:
        Zhang & Sennrich (2019), equation 4.

    Example:
        >>> import torch
        >>> RMSNorm(2, eps=0.0)(torch.tensor([[3.0, 4.0]])).detach()
        tensor([[0.8485, 1.1314]])
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None and is_small("rms_norm", x):
            return torch.rms_norm(x, self.normalized_shape, self.weight, self.eps)
        return rms_norm(x, self.normalized_shape, self.weight, eps=self.eps, mask=mask)
