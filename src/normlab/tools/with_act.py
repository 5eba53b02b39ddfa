"""Batch norms that become those that do what follows them, where they stand."""

from torch import nn

from normlab.layers import BatchNormAct1d, BatchNormAct2d, BatchNormAct3d
from normlab.layers.adopt import OURS
from normlab.layers.batch_norm_act import BatchNormActOptions
from normlab.layers.combined import combined
from normlab.layers.explicit import Explicit
from normlab.tools.frozen import Frozen
from normlab.tools.kinds import own_type
from normlab.tools.recognized import Follows

WITH_ACT: dict[type[nn.Module], type[BatchNormActOptions]] = {
    nn.BatchNorm1d: BatchNormAct1d,
    nn.BatchNorm2d: BatchNormAct2d,
    nn.BatchNorm3d: BatchNormAct3d,
}


def class_with_act(layer: nn.Module) -> type[nn.Module] | None:
    """The class with which a batch norm, frozen or not, does what follows it; None if there is none, or if it has it.

    A subclass that leaves the forward alone keeps what it has beside.

    Example:
        >>> class_with_act(nn.BatchNorm2d(3)).__name__, class_with_act(nn.LayerNorm(3))
        ('BatchNormAct2d', None)
    """
    its_class = own_type(layer)
    theirs = vars(its_class).get("combined_of", ("", its_class))[1]
    stock = next((each for each in WITH_ACT if issubclass(theirs, each)), None)
    if stock is None or "forward" in vars(layer) or nn.utils.parametrize.is_parametrized(layer):
        return None
    if theirs in (stock, OURS[stock]):
        return WITH_ACT[stock]
    above = theirs.__mro__[: theirs.__mro__.index(stock)]
    if issubclass(theirs, Explicit) or any("forward" in vars(each) for each in above):
        return None
    return combined(theirs.__name__, theirs, WITH_ACT[stock])


def let_do(norm: nn.Module, its_class: type[nn.Module], follows: Follows) -> None:
    """Makes a norm, of such a class, do what follows it; a frozen one stays frozen."""
    if isinstance(norm, Frozen):
        its_class = combined(f"Frozen{its_class.__name__}", Frozen, its_class)
    norm.__class__ = its_class
    norm.set_options(activation=follows.activation, slope=follows.slope)  # type: ignore[operator]
