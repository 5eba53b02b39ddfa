"""How a tool calls a model on the user's example, and what it asks of the model before it does."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from normlab import errors
from normlab.tools.ready import lazy_in, not_a_model, wrapper_in


def call(model: nn.Module, example: Any) -> Any:
    """The output of the model: a mapping gives keyword arguments, a tuple or a list the arguments, all else is one.

    Example:
        >>> call(nn.Bilinear(2, 3, 4), (torch.zeros(5, 2), torch.zeros(5, 3))).shape
        torch.Size([5, 4])
    """
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple | list) else model(example)


def tensors_in(nested: Any) -> Iterator[torch.Tensor]:
    """Every tensor in tuples, lists, mappings and dataclasses, however deep.

    Example:
        >>> [each.item() for each in tensors_in({"a": torch.tensor(1), "b": [(torch.tensor(2), None)]})]
        [1, 2]
    """
    if isinstance(nested, torch.Tensor):
        yield nested
        return
    inside: Any = ()
    if isinstance(nested, Mapping):
        inside = nested.values()
    elif isinstance(nested, tuple | list | set | frozenset):
        inside = nested
    elif dataclasses.is_dataclass(nested) and not isinstance(nested, type):
        inside = (getattr(nested, field.name) for field in dataclasses.fields(nested))
    for each in inside:
        yield from tensors_in(each)


def unfit(model: nn.Module, verb: str) -> list[errors.Problem]:
    """Why layers of this model cannot be exchanged at all; `verb` says what is to be done first.

    Example:
        >>> [each.got for each in unfit(nn.LazyLinear(2), "fold")]
        ['weight is lazy']
    """
    if problems := not_a_model(model):
        return problems
    if wrapped := wrapper_in(model):
        rule = "`model` must not be compiled, scripted or wrapped: what does so holds on to the old layers."
        problems.append(errors.Problem(rule, got=wrapped, fix=f"{verb} first, then wrap or compile."))
    return [*problems, *lazy_in(model)]
