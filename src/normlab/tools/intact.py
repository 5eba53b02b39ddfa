"""A model that a tool could not finish with is as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Before = tuple[nn.Module, type, dict[str, Any]]


@contextmanager
def intact(model: nn.Module) -> Iterator[None]:
    """If the block raises, the model is as before to the bit: classes, attributes, hooks, modes, layers, statistics.

    Values of buffers are copied. Those of parameters are not, as no tool writes into one: it puts another in its place.
    """
    before: list[Before] = [(each, type(each), _held(each)) for each in model.modules()]
    buffers = [(each, each.detach().clone()) for each in model.buffers()]
    learned = [(each, each.requires_grad) for each in model.parameters()]
    try:
        yield
    except BaseException:
        for module, its_class, held in before:
            module.__class__ = its_class
            module.__dict__.clear()
            module.__dict__.update(held)
        for buffer, value in buffers:
            buffer.detach().copy_(value)
        for parameter, wanted in learned:
            parameter.requires_grad_(wanted)
        raise


def _held(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module; dictionaries (of parameters, layers, hooks) are copied, as they change in place."""
    return {name: value.copy() if isinstance(value, dict) else value for name, value in module.__dict__.items()}
