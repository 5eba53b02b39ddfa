"""One kind of norm for another, in place."""

import math
import sys
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn

from normlab import errors
from normlab.tools.called import unfit
from normlab.tools.intact import intact
from normlab.tools.kinds import described, kind_of, norms_of, why_kept
from normlab.tools.norms import NORMS, ChannelsLast, How, NoNorm, misfit, norm_in
from normlab.tools.place import UNSEEN, place_of
from normlab.tools.reached import Reached, mode_of, reached_norms
from normlab.tools.report import Report, Skipped, Touched

NOWHERE = torch.empty(0)
START = {"weight": 1.0, "bias": 0.0}


def swap_(
    model: nn.Module,
    to: str,
    *,
    example: Any = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
    groups: int = 8,
) -> Report:
    """Replaces every norm of a model by one of another kind, in place; what already is of that kind stays.

    Weight and bias are kept where both kinds have one a channel; running statistics start afresh. A layer without
    weight or bias gives way to one without. A layer norm over the last dimension of (N, L, C) becomes a norm over the
    channels of (N, C, L) with the dimensions moved around it: but for layer and rms norm its moments are then over the
    positions too, later and padded ones among them. One over (C, H, W) is taken to have its channels first.
    A `TransformerEncoderLayer` whose norms are replaced leaves its fast path, which knows layer norm only.

    Args:
        model: a network that is not compiled, scripted or wrapped; equal to the bit afterwards if this raises.
        to: none, batch, layer, group, instance or rms.
        example: what the model is called with, to see the shapes at each norm: a tensor, a tuple or list of arguments,
            or a mapping of named ones. Without it, layers whose type does not say enough of its input are kept.
        eps: added to the variance; at least 0.
        momentum: weight of the new batch in running statistics, from 0 to 1.
        groups: of group norm; at least 1.

    Returns:
        What was swapped, and what was kept with the reason.

    Raises:
        InvalidInputError: `to` is no norm, a setting is out of its range, or the model is wrapped or has lazy layers.
            What the model itself raises on the example passes through.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        >>> swap_(model, "group", groups=2).touched
        (Touched(name='1', layer='BatchNorm1d(8)', change='to GroupNorm(2, 8)', error=None),)
    """
    how = How(eps, momentum, groups)
    errors.invalid_input("swap_", [*unfit(model, "swap"), *_problems(to, how)])
    norms = norms_of(model)
    touched: list[Touched] = []
    skipped: list[Skipped] = []
    with intact(model):
        reached = {} if example is None else reached_norms(model, norms.values(), example)
        home = next((each for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()), NOWHERE)
        plan: dict[nn.Module, nn.Module] = {}
        for name, module in norms.items():
            seen = reached.get(module)
            found = _why_kept(model, name, module, to) or _replacement(module, to, how, seen, example is not None)
            if isinstance(found, str):
                skipped.append(Skipped(name, described(module), found, same=kind_of(module) == to))
            else:
                plan[module] = found
                lost = _hand_over(module, found, home if seen is None else seen.like)
                touched.append(Touched(name, described(module), _said_of(found, lost)))
        for parent in list(model.modules()):
            for child_name, child in list(parent._modules.items()):  # named_children() leaves out a second name
                if child in plan:
                    setattr(parent, child_name, plan[child])
        _leave_fast_path(model)
    return Report(f"swapped to {'no' if to == 'none' else to} norm", tuple(touched), tuple(skipped))


def _problems(to: object, how: How) -> Iterator[errors.Problem]:
    if not isinstance(to, str):
        got = "None" if to is None else type(to).__name__  # a module in the wrong place would fill the screen
        yield errors.Problem("`to` must be a norm.", got, f"choose one of: {', '.join(NORMS)}.")
    elif to not in NORMS:
        yield errors.Problem("`to` must be a norm.", repr(to), errors.did_you_mean(to, NORMS))
    if not _is_number(how.eps, Real, 0, sys.float_info.max):
        rule = "`eps` must be a finite number that is not negative."
        yield errors.Problem(rule, f"eps = {how.eps!r}", "pass 1e-5.")
    if not _is_number(how.momentum, Real, 0, 1):
        yield errors.Problem("`momentum` must be a number from 0 to 1.", f"momentum = {how.momentum!r}", "pass 0.1.")
    if not _is_number(how.groups, Integral, 1, math.inf):
        yield errors.Problem("`groups` must be a whole number, at least 1.", f"groups = {how.groups!r}", "pass 8.")


def _is_number(value: Any, kind: Any, least: float, most: float) -> bool:
    return isinstance(value, kind) and least <= float(value) <= most


def _why_kept(model: nn.Module, name: str, module: nn.Module, to: str) -> str:
    if isinstance(module, NoNorm):
        return "there is no norm to replace"
    if kind_of(module) == to:
        return f"it is {to} norm as it is"
    if name == "":
        return "it is the whole model, which cannot be replaced in place"
    if reason := why_kept(module):
        return reason
    own = {id(each) for each in module.parameters()}
    inside = set(module.modules())
    if any(id(each) in own for other in model.modules() if other not in inside for each in other._parameters.values()):
        return "it shares a parameter with another layer"
    return ""


def _replacement(module: nn.Module, to: str, how: How, seen: Reached | None, tried: bool) -> nn.Module | str:
    """The new layer, or the reason why the old one is kept."""
    if to == "none":
        return NoNorm()
    place = place_of(module, to, seen)
    if place == UNSEEN and tried:
        return "the example does not reach it, so that the shape of its input is not known"
    if isinstance(place, str):
        return place
    if reason := misfit(to, place.where, how):
        return reason
    new = NORMS[to](place.where, how)
    return ChannelsLast(new, place.samples) if place.last and place.where.spatial else new


def _hand_over(old: nn.Module, new: nn.Module, home: torch.Tensor) -> tuple[str, ...]:
    """Mode, dtype, device, and what means the same in both; returns what had been learned and has no place."""
    mine = dict(norm_in(old).named_parameters())
    theirs = dict(norm_in(new).named_parameters())
    like = next(iter(mine.values()), home)
    new.to(device=like.device, dtype=like.dtype)
    new.train(mode_of(old))
    frozen = bool(mine) and not any(each.requires_grad for each in mine.values())
    lost = []
    with torch.no_grad():
        for name in theirs.keys() - mine.keys():
            theirs[name].requires_grad_(not frozen)
        for name, value in mine.items():
            if name in theirs:
                theirs[name].requires_grad_(value.requires_grad)
            if name in theirs and theirs[name].shape == value.shape:
                theirs[name].copy_(value)
            elif bool((value != START.get(name, math.nan)).any()):
                lost.append(name)
    return tuple(lost)


def _said_of(new: nn.Module, lost: tuple[str, ...]) -> str:
    """What took its place; after a semicolon, what had been learned and is gone."""
    gone = f"; its trained {' and '.join(lost)} found no place there" if lost else ""
    return f"to {described(new)}{gone}"


def _leave_fast_path(model: nn.Module) -> None:
    """In eval mode an encoder of PyTorch computes layer norms from `norm1.weight`, whatever `norm1` is."""
    for layer in model.modules():
        if isinstance(layer, nn.TransformerEncoderLayer) and not _has_layer_norms(layer):
            layer.activation_relu_or_gelu = 0
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and not all(map(_has_layer_norms, encoder.layers)):
            encoder.use_nested_tensor = False


def _has_layer_norms(layer: nn.Module) -> bool:
    return all(type(getattr(layer, name, None)) is nn.LayerNorm for name in ("norm1", "norm2"))
