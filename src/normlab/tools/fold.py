"""Norms with running statistics folded into the weight layers beside them, in place."""

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from normlab import errors
from normlab.tools.called import unfit
from normlab.tools.fold_plan import make, sound_folds
from normlab.tools.fold_verify import (
    allowed,
    nothing_to_compare,
    outputs_of,
    relative_error,
    settled,
    tolerance_problems,
)
from normlab.tools.intact import intact
from normlab.tools.kinds import described, norms_of
from normlab.tools.report import Report, Skipped, Touched
from normlab.tools.where import Where, chosen, unmatched

BORDERS = ("refuse", "pad")


def fold_(
    model: nn.Module,
    example: Any,
    *,
    where: Where[nn.Module] = None,
    tolerance: float = 1e-4,
    border: Literal["refuse", "pad"] = "refuse",
) -> Report:
    """Takes batch norms, and instance norms with running statistics, out of a model that is used in eval mode.

    Each becomes part of the linear or (transposed) convolution layer before it or, where that cannot be, of the one
    after it, and is replaced by an `Identity`. Which layers these are is seen in a run on the example: the value
    between the two must be read by nobody else. Weights are computed in float64 and rounded once. Where the example
    does not go, nothing is known: a model with several paths wants an example for the one that is to be used.

    Args:
        model: a network that is not compiled, scripted or wrapped, in any mode; equal to the bit afterwards if this
            raises. In train mode it is another model afterwards.
        example: what the model is called with: a tensor, a tuple or list of arguments, or a mapping of named ones.
        where: which norms, by name ("layer1" is all within), by pattern ("*.norm2"), several of these, or a function of
            name and layer. None is every one.
        tolerance: how far a fold may move its layer's output and the output of the model, relative to the largest
            value; in half precision at least 16 roundings. A fold that moves them farther is undone. With
            `float("inf")` none is: for a new model into which the weights of a folded one are to be loaded.
        border: what to do with a norm before a convolution that pads with zeros: refuse it, or pad the input of the
            norm with the values that it maps to zero, also where these are all zero.

    Returns:
        Every norm that is asked for: folded, with the error at its place, or kept, with the reason. The error of the
        whole is that of the outputs of the model.

    Raises:
        InvalidInputError: an argument is none of those, the model is wrapped or has lazy layers, or its outputs on the
            example are empty or nowhere finite. What the model itself raises on the example passes through.

    Differs from torch:
        `fuse_conv_bn_eval` takes what it is given for neighbours, `fuse_linear_bn_eval` is silently wrong on
        (N, L, C) with L = C, both check nothing, and neither folds into a layer after the norm.

    Source:
        Jacob et al. 2018, section 3.2.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> fold_(model, torch.ones(1, 3, 5, 5)).touched[0].change, model[1], model[0].bias.shape
        ('into 0 before it', Identity(), torch.Size([8]))
    """
    errors.invalid_input("fold_", _problems(model, where, tolerance, border))
    asked = set(chosen(where, _named(model)))
    norms = {name: norm for name, norm in norms_of(model).items() if norm in asked}
    layers = {name: described(norm) for name, norm in norms.items()}
    touched: dict[str, Touched] = {}
    undone: dict[str, str] = {}
    error = None
    with intact(model):
        before = outputs_of(model, example)
        errors.invalid_input("fold_", nothing_to_compare(before))
        most = allowed(tolerance, model, before)
        while True:  # again, as a norm beside a norm is beside a layer once the other is folded
            left = {name: norm for name, norm in norms.items() if name not in touched | undone}
            moved, reasons = sound_folds(model, example, left, border, most)
            if not moved:
                break
            kept, failed, found = settled(
                list(moved),
                lambda folds: make(model, folds),
                lambda: relative_error(before, outputs_of(model, example)),
                most,
            )
            if kept:  # without outputs in floating point the largest error at a layer is all that is known
                error = found if before else max(moved[fold] for fold in kept)
            undone |= {fold.name: reason for fold, reason in failed.items()}
            touched |= {fold.name: Touched(fold.name, layers[fold.name], fold.words, moved[fold]) for fold in kept}
    reasons |= undone
    return Report(
        "folded",
        tuple(touched[name] for name in norms if name in touched),
        tuple(Skipped(name, layers[name], reasons[name]) for name in norms if name not in touched),
        error,
    )


def _named(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every norm, by each of its names."""
    norms = set(norms_of(model).values())
    return [(name, module) for name, module in model.named_modules(remove_duplicate=False) if module in norms]


def _problems(model: nn.Module, where: Where[nn.Module], tolerance: float, border: str) -> Iterator[errors.Problem]:
    yield from unfit(model, "fold")
    if isinstance(model, nn.Module):
        yield from unmatched("where", where, [name for name, _ in _named(model)], "norm layer")
    yield from tolerance_problems(tolerance)
    if border not in BORDERS:
        fix = errors.did_you_mean(str(border), BORDERS)
        yield errors.Problem("`border` must be one of refuse, pad.", got=repr(border), fix=fix)
