"""What reaches each norm of a model, seen by passing a batch through it."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from normlab.tools.called import call, tensors_in

Shapes = dict[nn.Module, list[tuple[int, ...]]]


@dataclass(frozen=True)
class Reached:
    """The input of a norm, one for all the times that it is called in a pass."""

    shapes: tuple[tuple[int, ...], ...]
    samples: int | None  # the dimension that grows with the batch; None if it is not the same one at each call
    like: torch.Tensor  # empty, of the dtype and on the device of the input


def reached_norms(model: nn.Module, norms: Collection[nn.Module], example: Any) -> dict[nn.Module, Reached]:
    """What enters each norm in eval mode; those that the example does not reach are left out.

    The batch goes through once as it is and once less its last sample, to see which dimension the samples are in.
    """
    likes: dict[nn.Module, torch.Tensor] = {}
    whole = _shapes(model, norms, example, likes)
    try:
        less = _without_the_last(example)
        fewer = {} if less is None else _shapes(model, norms, less, {})
    except Exception:  # a network of a fixed batch size: PyTorch's order of dimensions is taken
        fewer = {}
    return {norm: Reached(tuple(shapes), _samples(shapes, fewer.get(norm, [])), likes[norm])
            for norm, shapes in whole.items()}  # fmt: skip


@contextmanager
def left_alone(model: nn.Module) -> Iterator[None]:
    """Modes, buffers and random state are afterwards as before, whatever happens inside."""
    modes = [(module, mode_of(module)) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {each.device.index for each in (*model.parameters(), *model.buffers()) if each.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(index for index in devices if index is not None)), torch.no_grad():
        try:
            yield
        finally:
            for module, training in modes:
                _set_mode(module, training)
            for module, before in buffers:
                module._buffers.update(before)
            for buffer, value in values:
                buffer.copy_(value)


def mode_of(module: nn.Module) -> bool:
    """What `train()` or `eval()` asked for last, of a frozen layer too; a scripted one keeps it elsewhere."""
    return bool(vars(module).get("training", module.training))


def _set_mode(module: nn.Module, training: bool) -> None:
    if "training" in vars(module):
        vars(module)["training"] = training
    else:
        module.training = training


def _shapes(
    model: nn.Module, norms: Collection[nn.Module], example: Any, likes: dict[nn.Module, torch.Tensor]
) -> Shapes:
    shapes: Shapes = {}

    def see(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = next(each for each in (*inputs, *named.values()) if isinstance(each, torch.Tensor))
        shapes.setdefault(module, []).append(tuple(x.shape))
        likes[module] = x.new_empty(0)

    handles = [norm.register_forward_pre_hook(see, with_kwargs=True) for norm in norms]
    try:
        with left_alone(model), _dense(model):
            model.eval()
            call(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _without_the_last(example: Any) -> Any:
    """The example less its last sample: of every tensor that has as many rows as the first; None if that is one."""
    rows = next((len(each) for each in tensors_in(example) if each.ndim), 0)

    def less(value: Any) -> Any:
        return value[:-1] if isinstance(value, torch.Tensor) and value.ndim and len(value) == rows else value

    if rows < 2:
        return None
    if isinstance(example, Mapping):
        return {name: less(value) for name, value in example.items()}
    return [less(value) for value in example] if isinstance(example, tuple | list) else less(example)


@contextmanager
def _dense(model: nn.Module) -> Iterator[None]:
    """Padded positions are computed like the others: a nested tensor has no shape."""
    encoders = [
        (each, each.use_nested_tensor)
        for each in model.modules()
        if isinstance(each, nn.TransformerEncoder) and hasattr(each, "use_nested_tensor")
    ]
    try:
        for encoder, _ in encoders:
            encoder.use_nested_tensor = False
        yield
    finally:
        for encoder, before in encoders:
            encoder.use_nested_tensor = before


def _samples(whole: list[tuple[int, ...]], fewer: list[tuple[int, ...]]) -> int | None:
    """The one dimension in which the shapes of two passes differ; the first if nothing differs or can be said."""
    if list(map(len, whole)) != list(map(len, fewer)):
        return 0
    found = {
        dimension
        for one, other in zip(whole, fewer, strict=True)
        for dimension, (size, less) in enumerate(zip(one, other, strict=True))
        if size != less
    }
    if not found:
        return 0
    return found.pop() if len(found) == 1 else None
