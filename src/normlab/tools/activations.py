"""What stands where an activation was, once a norm does it, and where such a norm was, once that is folded."""

from torch import Tensor, nn

from normlab.kernels.activation import Activation, activate
from normlab.layers.combined import combined


class DoneBefore(nn.Module):
    """In front of the class of an activation, hands on what it gets: the norm before it has activated it."""

    def forward(self, input: Tensor) -> Tensor:
        return input

    def extra_repr(self) -> str:
        return "done by the norm before it"


def leave_to_the_norm(module: nn.Module) -> None:
    """An activation does nothing any more; it still stands in its place, under its name and type."""
    if not isinstance(module, DoneBefore):
        theirs = type(module)
        module.__class__ = combined(theirs.__name__, DoneBefore, theirs)


class AddAndActivate(nn.Module):
    """What is left of a norm that does what follows it, when a layer before it does the norm.

    Example:
        >>> import torch
        >>> AddAndActivate("relu")(torch.tensor([1.0, -3.0]), torch.tensor([1.0, 1.0]))
        tensor([2., 0.])
    """

    def __init__(self, activation: Activation = "none", slope: float = 0.01) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.slope = slope

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        return activate(input if residual is None else input + residual, self.activation, self.slope)

    def extra_repr(self) -> str:
        return self.activation
