"""Layer norm on the processor: from tensors to the kernel and back."""

from torch import Tensor

from normlab.kernels.activation import NOTHING, After
from normlab.kernels.cpu import launch
from normlab.kernels.cpu.rows import rows_bwd, rows_fwd

# From so many values on forward and backward are faster than PyTorch's, on two threads and between other work: 0.20 and
# 0.57 ms against 0.21 and 0.61 at (1024, 768), but 0.085 and 0.22 against 0.063 and 0.17 at (512, 512).
WORTH = 3 << 18


def why_not(x: Tensor, dims: int, after: After = NOTHING) -> str:
    """Why there is no kernel for this; nothing if there is."""
    return launch.why_not(x, after)


def least(x: Tensor, dims: int, after: After = NOTHING, given: bool = False) -> int:
    """From how many values on it is faster than PyTorch's, with all that comes with a call."""
    return WORTH


def layer_norm_fwd(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: int, eps: float
) -> tuple[Tensor, Tensor]:
    """y, and the statistics (4, R): the mean, what float32 leaves out of it, 1 / √(var + eps), the biased variance.

    Args:
        x: that `why_not` has nothing against.
        weight: scale, or None for 1.
        bias: shift, or None for 0.
        dims: how many dimensions are normalized, the last ones.
        eps: added to the variance.
    """
    return rows_fwd("layer_norm", x, weight, bias, dims, eps)


def layer_norm_bwd(
    dy: Tensor, x: Tensor, weight: Tensor | None, statistics: Tensor, dims: int
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dweight and dbias, by what the forward returned.

    Args:
        dy: from above.
        x: as in the forward, as are the others.
        weight: scale, or None for 1.
        statistics: which the forward returned.
        dims: how many dimensions are normalized.
    """
    dx, gradients = rows_bwd("layer_norm", dy, x, weight, statistics, dims)
    dweight, dbias = gradients.unbind()
    return dx, dweight, dbias
