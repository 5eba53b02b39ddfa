"""One kind of norm for another, in place."""

import math

import torch
from torch import nn

from normlab import errors
from normlab.tools.kinds import kind_of, norms_of, why_kept
from normlab.tools.norms import NORMS, ChannelsLast, How, NoNorm, misfit
from normlab.tools.place import UNSEEN, place_of
from normlab.tools.reached import Reached, reached_norms
from normlab.tools.swapped import Kept, Swapped, SwapReport

# by name, since importing the compiler to compare its class takes a second
WRAPPERS = {"DistributedDataParallel", "FullyShardedDataParallel", "OptimizedModule", "ScriptModule"}
START = {"weight": 1.0, "bias": 0.0}


def swap_(
    model: nn.Module,
    to: str,
    *,
    example: torch.Tensor | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
    groups: int = 8,
) -> SwapReport:
    """Replaces every norm of a model by one of another kind, in place; what already is of that kind stays.

    Weight and bias are kept where both kinds have one a channel; running statistics start afresh. A layer without
    weight or bias gives way to one without. A layer norm over the last dimension of (N, L, C) becomes a norm over the
    channels of (N, C, L) with the dimensions moved around it: but for layer and rms norm its moments are then over the
    positions too, later and padded ones among them. One over (C, H, W) is taken to have its channels first.
    A `TransformerEncoderLayer` whose norms are replaced leaves its fast path, which knows layer norm only.

    Args:
        model: a network that is not compiled, scripted or wrapped; equal to the bit afterwards if this raises.
        to: none, batch, layer, group, instance or rms.
        example: a batch that the model takes, to see the shapes at each norm. Without it, layers whose type does not
            say enough of its input are kept.
        eps: added to the variance.
        momentum: weight of the new batch in running statistics.
        groups: of group norm.

    Returns:
        What was swapped, and what was kept with the reason.

    Raises:
        InvalidInputError: `to` is not a norm, or the model is wrapped or has lazy layers. What the model itself raises
            on the example passes through.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        >>> swap_(model, "group", groups=2).swapped
        (Swapped(name='1', before='BatchNorm1d(8)', after='GroupNorm(2, 8)', lost=()),)
    """
    errors.invalid_input("swap_", _problems(model, to))
    how = How(eps, momentum, groups)
    norms = norms_of(model)
    reached = {} if example is None else reached_norms(model, norms.values(), example)
    home = next((each for each in (*model.parameters(), *model.buffers()) if each.is_floating_point()), torch.empty(0))
    plan: dict[nn.Module, nn.Module] = {}
    swapped, kept = [], []
    for name, module in norms.items():
        seen = reached.get(module)
        found = _why_kept(model, name, module, to) or _replacement(module, to, how, seen, example is not None)
        if isinstance(found, str):
            kept.append(Kept(name, described(module), found, kind_of(module) == to))
        else:
            plan[module] = found
            lost = _hand_over(module, found, home if seen is None else seen.like)
            swapped.append(Swapped(name, described(module), described(found), lost))
    for parent in list(model.modules()):
        for child_name, child in list(parent._modules.items()):  # named_children() leaves out a second name
            if child in plan:
                setattr(parent, child_name, plan[child])
    _leave_fast_path(model)
    return SwapReport(to, tuple(swapped), tuple(kept))


def wrapper_in(model: nn.Module) -> str:
    """The name of what compiles, scripts or distributes the model or a part of it; empty if nothing does.

    Example:
        >>> wrapper_in(nn.Linear(2, 2))
        ''
    """
    types = {each.__name__ for module in model.modules() for each in type(module).__mro__}
    return min(types & WRAPPERS, default="")


def described(module: nn.Module) -> str:
    """Type and sizes, without the settings.

    Example:
        >>> described(ChannelsLast(nn.BatchNorm1d(8))), described(nn.LayerNorm(8))
        ('BatchNorm1d(8) over the last dimension', 'LayerNorm(8)')
    """
    if isinstance(module, ChannelsLast):
        return f"{described(module.norm)} over the last dimension"
    sizes = [
        ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name in ("num_groups", "num_channels", "num_features", "normalized_shape", "channels", "size")
        if (value := getattr(module, name, None)) is not None
    ]
    name = f"{type(module).__name__}({', '.join(sizes)})" if sizes else type(module).__name__
    return f"{name}, which is layer norm" if isinstance(module, nn.GroupNorm) and kind_of(module) == "layer" else name


def _problems(model: nn.Module, to: str) -> list[errors.Problem]:
    problems = []
    if to not in NORMS:
        problems.append(errors.Problem("`to` must be a norm.", got=repr(to), fix=errors.did_you_mean(to, NORMS)))
    if wrapped := wrapper_in(model):
        rule = "`model` must not be compiled, scripted or wrapped: what does so holds on to the old layers."
        problems.append(errors.Problem(rule, got=wrapped, fix="swap first, then wrap or compile."))
    lazy = [name for name, each in (*model.named_parameters(), *model.named_buffers()) if nn.parameter.is_lazy(each)]
    if lazy:
        fix = "pass one batch through it first."
        problems.append(errors.Problem("`model` must have all its weights.", got=f"{lazy[0]} is lazy", fix=fix))
    return problems


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
    mine = dict(_inner(old).named_parameters())
    theirs = dict(_inner(new).named_parameters())
    like = next(iter(mine.values()), home)
    new.to(device=like.device, dtype=like.dtype)
    new.train(old.training)
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


def _inner(module: nn.Module) -> nn.Module:
    return module.norm if isinstance(module, ChannelsLast) else module


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
