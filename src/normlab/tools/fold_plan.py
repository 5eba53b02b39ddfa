"""Which norm is to become part of which layer, how far each moves what is put out there, and how it is done."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from normlab.tools.activations import AddAndActivate
from normlab.tools.called import call
from normlab.tools.dataflow import trace
from normlab.tools.fold_border import border_for, has_border, pads_with_zeros, take_padding_away, why_not_padded
from normlab.tools.fold_maths import affine_of, folded_after, folded_before, put, weights_of
from normlab.tools.fold_verify import full_float32, is_within, relative_error, too_far
from normlab.tools.fold_where import (
    Where,
    layer_after,
    layer_before,
    why_not_after,
    why_not_before,
    why_not_fixed_scale,
)
from normlab.tools.kinds import does_more
from normlab.tools.reached import left_alone

CHANGED = ("_parameters", "padding", "_reversed_padding_repeated_twice")  # of a weight layer
PADDED = ", with a border around its input for the zeros around its output"


@dataclass(frozen=True, eq=False)
class Fold:
    """A norm, and the layer that is to do its work: the one before it or after it.

    `pad`: the border of that layer's input is made where the norm was. `inexact`: why it would
    be wrong.
    """

    name: str
    norm: nn.Module
    layer: nn.Module
    words: str
    after: bool = False
    pad: bool = False
    inexact: str = ""


def sound_folds(
    model: nn.Module, example: Any, norms: Mapping[str, nn.Module], border: str, most: float
) -> tuple[dict[Fold, float], dict[str, str]]:
    """What can be folded, with the error that each fold makes at its place; for the other norms the reason why not.

    Args:
        model: a network as it stands.
        example: what it is called with.
        norms: those that are to be folded, by name.
        border: `pad` if the zero padding of a layer may be replaced.
        most: the error that is too large.
    """
    where = Where(model, trace(model, example))
    found = {name: _fold(where, name, norm, border) for name, norm in norms.items()}
    moved = _errors(model, example, [each for each in found.values() if isinstance(each, Fold)])
    reasons = {name: each for name, each in found.items() if isinstance(each, str)}
    for fold, error in moved.items():
        if fold.inexact:
            reasons[fold.name] = f"{fold.inexact} by {error:.1e} relative on the example"
        elif not is_within(error, most):
            reasons[fold.name] = too_far(error, most)
    sound = {fold: error for fold, error in moved.items() if fold.name not in reasons}
    if not all(fold.after for fold in sound):
        # once that is done, what stands behind another norm may stand behind a layer: it goes there, whatever its
        # values allow for now, so that the same layers change in a model with other weights
        sound = {fold: error for fold, error in sound.items() if not _waits(where, fold, norms)}
    return sound, reasons


def make(model: nn.Module, folds: Sequence[Fold]) -> Callable[[], None]:
    """Folds, and returns what takes all of it back. A layer between two norms is rounded once."""
    layers = dict.fromkeys(fold.layer for fold in folds)
    held = [
        (layer, {name: copy.copy(value) for name, value in vars(layer).items() if name in CHANGED}) for layer in layers
    ]
    in_place = {fold.norm: _in_place_of(fold) for fold in folds}
    slots = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child in in_place
    ]
    for layer in layers:
        _fold_into(layer, [fold for fold in folds if fold.layer is layer])
    for parent, name, child in slots:
        parent._modules[name] = in_place[child]
    modes = [(each, each.training) for norm in in_place for each in norm.modules()]
    for each, _ in modes:  # if somebody else calls it still, the modes of the model no longer reach it
        each.training = False

    def undo() -> None:
        for each, training in modes:
            each.training = training
        for parent, name, child in slots:
            parent._modules[name] = child
        for layer, before in held:
            vars(layer).update(before)

    return undo


def _fold(where: Where, name: str, norm: nn.Module, border: str) -> Fold | str:
    if reason := why_not_fixed_scale(where, norm):
        return reason
    (called,) = where.flow.calls[norm]
    before = layer_before(where, called)
    if before is None:
        reason = f"its input comes from {where.maker(called.inputs[0])}"
    elif not (reason := why_not_before(where, called, before)):
        return Fold(name, norm, before.module, f"into {where.names[before.module]} before it")
    after = "what it does beside stands before the layer after it" if does_more(norm) else layer_after(where, called)
    if isinstance(after, str):
        return f"{reason}, and {after}"
    if why_not := why_not_after(where, called, after):
        return f"{reason}, and {why_not}"
    words = f"into {where.names[after.module]} after it"
    affine = affine_of(norm)
    impossible = why_not_padded(after.module, affine)
    # a border is made for a norm without shift too, so that the weights of the norm do not decide on the layers
    padded = border == "pad" and not impossible and pads_with_zeros(after.module)
    if not padded and not has_border(after.module, affine):
        return Fold(name, norm, after.module, words, after=True)
    if padded:
        return Fold(name, norm, after.module, words + PADDED, after=True, pad=True)
    remedy = impossible or 'border="pad" makes it exact'
    inexact = (
        f"{reason}, and {where.word(after.module)} after it takes zeros for what is outside ({remedy}): "
        "folded there it would be wrong at the border"
    )
    return Fold(name, norm, after.module, words, after=True, inexact=inexact)


def _waits(where: Where, fold: Fold, norms: Mapping[str, nn.Module]) -> bool:
    """Whether it would go into the layer after it, while the norm before it may yet be folded."""
    if not fold.after:
        return False
    (called,) = where.flow.calls[fold.norm]
    made = called.inputs[0].call
    return made is not None and any(made.module in norm.modules() for norm in norms.values())


def _errors(model: nn.Module, example: Any, folds: Sequence[Fold]) -> dict[Fold, float]:
    """How far each fold by itself moves what comes out behind norm and layer, in one run of the model as it is."""
    moved = dict.fromkeys(folds, math.inf)
    handles = []
    try:
        for fold in folds:
            enter, leave = _compared(fold, moved)
            first, last = (fold.norm, fold.layer) if fold.after else (fold.layer, fold.norm)
            handles.append(first.register_forward_pre_hook(enter, with_kwargs=True))
            handles.append(last.register_forward_hook(leave, with_kwargs=True))
        if folds:
            with left_alone(model), full_float32():
                model.eval()
                call(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return moved


def _compared(fold: Fold, moved: dict[Fold, float]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Two hooks: at the first of norm and layer the folded one is computed beside it, at the last they are compared."""
    # not called as a layer, since a copy has the hooks of the original
    twin = copy.copy(fold.layer)
    twin._parameters = dict(fold.layer._parameters)
    _fold_into(twin, [fold])
    pad = _in_place_of(fold)
    made: list[torch.Tensor] = []

    def enter(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        with suppress(Exception):  # what cannot be computed, or compared under vmap, stays infinitely wrong
            made.append(twin.forward(pad(*inputs, **named)) if fold.after else twin.forward(*inputs, **named))

    def leave(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor) -> None:
        with suppress(Exception):
            y = made.pop()
            if does_more(fold.norm):
                y = pad(y, *inputs[1:], **named)
            moved[fold] = relative_error([output], [y])

    return enter, leave


def _in_place_of(fold: Fold) -> nn.Module:
    norm: Any = fold.norm
    if fold.pad:
        return border_for(fold.layer, affine_of(norm)).train(norm.training)
    left = AddAndActivate(norm.activation, norm.slope) if does_more(norm) else nn.Identity()
    return left.train(norm.training)


def _fold_into(layer: nn.Module, folds: Sequence[Fold]) -> None:
    weights = weights_of(layer)
    for fold in folds:
        weights = (folded_after if fold.after else folded_before)(layer, weights, affine_of(fold.norm))
    put(layer, weights)
    if any(fold.pad for fold in folds):
        take_padding_away(layer)
