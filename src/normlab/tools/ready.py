"""Whether the layers of a model can be changed in place at all."""

from torch import nn

from normlab import errors
from normlab.layers.a_model import not_a_model as not_a_model

# by name, since importing the compiler to compare its class takes a second
SCRIPTED = {"ScriptModule"}
WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "OptimizedModule"} | SCRIPTED


def wrapper_in(model: nn.Module, wrappers: set[str] = WRAPPERS) -> str:
    """The name of what compiles, scripts or distributes the model or a part of it; empty if nothing does.

    Example:
        >>> wrapper_in(nn.Linear(2, 2))
        ''
    """
    types = {each.__name__ for module in model.modules() for each in type(module).__mro__}
    return min(types & wrappers, default="")


def lazy_in(model: nn.Module) -> list[errors.Problem]:
    """That weights have no shape yet."""
    lazy = [name for name, each in (*model.named_parameters(), *model.named_buffers()) if nn.parameter.is_lazy(each)]
    if not lazy:
        return []
    fix = "pass one batch through it first."
    return [errors.Problem("`model` must have all its weights.", got=f"{lazy[0]} is lazy", fix=fix)]
