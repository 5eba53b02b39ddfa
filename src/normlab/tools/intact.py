"""A model that a tool could not finish with is as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from normlab import errors

Held = dict[str, tuple[Any, Any]]


@contextmanager
def intact(model: nn.Module) -> Iterator[None]:
    """If the block raises, the model is as before to the bit: classes, attributes, hooks, modes, layers, statistics.

    Values of buffers are copied. Those of parameters are not, as no tool writes into one: it puts another in its place.
    """
    if any("for_a_while" in vars(each) for each in model.modules()):
        rule = "a tool cannot change a model inside of `stats_frozen`, `accumulate` or `functional_call`."
        fix = "call it before: at the end of such a block the layers are given back what they were."
        errors.invalid_input("normlab.tools", [errors.Problem(rule, fix=fix)])
    before = [(each, type(each), _held(each)) for each in model.modules()]
    buffers = [(each, each.detach().clone()) for each in model.buffers()]
    learned = [(each, each.requires_grad) for each in model.parameters()]
    try:
        yield
    except BaseException:
        for module, its_class, held in before:
            module.__class__ = its_class
            module.__dict__.clear()
            module.__dict__.update(_put_back(held))
        for buffer, value in buffers:
            buffer.detach().copy_(value)
        for parameter, wanted in learned:
            parameter.requires_grad_(wanted)
        raise


def _held(module: nn.Module) -> Held:
    """The attributes of a module, and what is in its dictionaries (of layers, hooks), as these change in place."""
    return {name: (value, value.copy() if isinstance(value, dict) else None) for name, value in module.__dict__.items()}


def _put_back(held: Held) -> dict[str, Any]:
    """The same dictionaries with what was in them: the handle of a hook refers to the one that holds it."""
    for value, inside in held.values():
        if isinstance(value, dict):
            value.clear()
            value.update(inside)
    return {name: value for name, (value, _) in held.items()}
