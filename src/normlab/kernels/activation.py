"""What may follow a norm in the same kernel, by name; here in plain torch, for whatever has no kernel."""

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional

Activation = Literal["none", "relu", "leaky_relu", "silu", "gelu"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "relu", "leaky_relu", "silu", "gelu")


class After(NamedTuple):
    """What follows a norm: `+ residual` if there is one, then the activation."""

    activation: Activation = "none"
    slope: float = 0.01
    residual: Tensor | None = None

    def of(self, y: Tensor) -> Tensor:
        """In plain torch."""
        return activate(y if self.residual is None else y + self.residual, self.activation, self.slope)

    def fits(self, x: Tensor) -> bool:
        """Whether there is no residual, or one that is like `x`."""
        r = self.residual
        return r is None or (r.shape == x.shape and r.dtype == x.dtype and r.device == x.device)

    def of_fresh(self, y: Tensor) -> Tensor:
        """In place where that can be: of a `y` that nobody else has, and that no backward needs."""
        r = self.residual
        if r is not None:
            y = y.add_(r) if self.fits(y) else y + r
        return y.relu_() if self.activation == "relu" else activate(y, self.activation, self.slope)


NOTHING = After()


def activate(z: Tensor, activation: Activation, slope: float = 0.01) -> Tensor:
    """The activation of that name.

    Args:
        z: the values.
        activation: `none`, `relu`, `leaky_relu`, `silu`, or `gelu`, which is the exact one.
        slope: of leaky ReLU below 0.

    Example:
        >>> import torch
        >>> activate(torch.tensor([-1.0, 2.0]), "leaky_relu", slope=0.5)
        tensor([-0.5000,  2.0000])
    """
    if activation == "relu":
        return functional.relu(z)
    if activation == "leaky_relu":
        return functional.leaky_relu(z, slope)
    if activation == "silu":
        return functional.silu(z)
    return functional.gelu(z) if activation == "gelu" else z
