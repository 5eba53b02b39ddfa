"""Biases that the norm after them takes away again, taken out of the model in place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from normlab import errors
from normlab.tools.called import unfit
from normlab.tools.dataflow import Call, Value, trace
from normlab.tools.fold_verify import (
    allowed,
    in_short,
    nothing_to_compare,
    outputs_of,
    relative_error,
    settled,
    tolerance_problems,
)
from normlab.tools.fold_where import Where, has_hooks, layer_before, why_not_before
from normlab.tools.intact import intact
from normlab.tools.kinds import described, kind_of, norms_of, why_unknown
from normlab.tools.norms import norm_in
from normlab.tools.report import Report, Skipped, Touched


@dataclass(frozen=True, eq=False)
class Drop:
    """A layer, and the norm that takes its bias away again."""

    name: str
    layer: nn.Module
    norm: nn.Module
    change: str


def drop_bias_(model: nn.Module, example: Any, *, tolerance: float = 1e-4) -> Report:
    """Takes away the bias of every linear and (transposed) convolution layer that only a batch or instance norm reads.

    Such a norm takes its mean away, and a bias with it: it changes nothing but that mean, and its gradient is nothing
    but rounding. What the model puts out stays as it is, in train mode and in eval mode: the bias is subtracted from
    the running mean.

    Args:
        model: a network that is not compiled, scripted or wrapped, in any mode; equal to the bit afterwards if this
            raises.
        example: what the model is called with: a tensor, a tuple or list of arguments, or a mapping of named ones.
        tolerance: how far the outputs of the model may move in eval and in train mode, relative to the largest value;
            in half precision at least 16 roundings. A change that moves them farther is undone.

    Returns:
        Every layer with a bias that a norm reads: without it now, or kept, with the reason.

    Raises:
        InvalidInputError: `tolerance` is negative, the model is wrapped or has lazy layers, or its outputs on the
            example are empty or nowhere finite. What the model itself raises on the example passes through; what it
            raises in train mode alone is put in the report.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        >>> drop_bias_(model, torch.randn(3, 4)).title().partition(",")[0], model[0].bias
        ('1 of 1 weight layer freed of a redundant bias', None)
    """
    errors.invalid_input("drop_bias_", unfit(model, "drop the biases") + tolerance_problems(tolerance))
    with intact(model):
        eval_before = outputs_of(model, example)
        errors.invalid_input("drop_bias_", nothing_to_compare(eval_before))
        where = Where(model, trace(model, example))
        wanted, skipped = _wanted(where)
        train_before, untried = _train_outputs(model, example)

        def moved() -> float:
            after = relative_error(eval_before, outputs_of(model, example))
            return after if untried else max(after, relative_error(train_before, outputs_of(model, example, True)))

        most = allowed(tolerance, model, eval_before)
        kept, undone, error = settled(wanted, _make, moved, most) if wanted else ([], {}, 0.0)
    skipped += [Skipped(drop.name, described(drop.layer), reason) for drop, reason in undone.items()]
    touched = [Touched(drop.name, described(drop.layer), drop.change + untried) for drop in kept]
    return Report(
        "freed of a redundant bias",
        tuple(touched),
        tuple(skipped),
        error if kept and eval_before else None,
        layers="weight layer",
    )


def _wanted(where: Where) -> tuple[list[Drop], list[Skipped]]:
    """Every layer with a bias that some norm reads, each once."""
    wanted, skipped = [], {}
    for norm in norms_of(where.model).values():
        for called in where.flow.calls.get(norm, []):
            before = layer_before(where, called)
            if before is None or before.module._parameters.get("bias") is None:
                continue
            layer = before.module
            name = where.names[layer]
            if reason := _why_kept(where, norm, called, before):
                skipped[layer] = Skipped(name, described(layer), reason)
            else:
                wanted.append(Drop(name, layer, norm, f"its bias is taken away by {where.word(norm)}"))
    return wanted, list(skipped.values())


def _why_kept(where: Where, norm: nn.Module, called: Call, before: Call) -> str:
    word = where.word(norm)
    inner = norm_in(norm)
    if kind_of(norm) is None:
        return f"{word} {why_unknown(norm)}"
    if kind_of(norm) not in ("batch", "instance"):
        return f"{word} does not take away a value for each channel"
    if getattr(inner, "normlab_frozen", False) or getattr(inner, "normalize_with", "mode") == "running":
        return f"{word} normalizes by running statistics in train mode too, which do not take a bias away"
    if has_hooks(norm) or has_hooks(inner):
        return f"{word} has hooks, which see its input"
    if "forward" in vars(norm) or "forward" in vars(inner):
        return f"the forward of {word} was replaced by another function"
    if (times := where.times(norm)) > 1:
        return f"{word} is called {times} times"
    if reason := why_not_before(where, called, before, ("bias",)):
        return reason
    if between := _between(where, called.inputs[0]):
        return f"{between} stands between it and {word}"
    mean = inner._buffers.get("running_mean")
    if mean is None:
        return ""
    others = (each for each in where.model.modules() if each is not inner)
    if any(each is mean for other in others for each in other._buffers.values()):
        return f"{word} shares its running mean with another layer"
    reader = where.read_elsewhere(where.flow.value(mean), norm)
    return f"the running mean of {word} is also used by {reader}" if reader else ""


def _between(where: Where, value: Value) -> str:
    """What hands the value on as it is in eval mode, and may do otherwise in train mode."""
    for each in value.passed:
        if isinstance(each, str):
            return each
        if type(each).forward not in (nn.Identity.forward, nn.Sequential.forward):
            return where.word(each)
    return ""


def _train_outputs(model: nn.Module, example: Any) -> tuple[list[torch.Tensor], str]:
    """What the model puts out in train mode, or words for why that is not known: one sample may be too few for it."""
    try:
        return outputs_of(model, example, training=True), ""
    except Exception as error:
        return [], f"; not tried in train mode, where the model raises {in_short(error)}"


def _make(drops: Sequence[Drop]) -> Callable[[], None]:
    """Takes the biases away, and returns what puts them back."""
    undone: list[Callable[[], None]] = []
    for drop in drops:
        bias = drop.layer.get_parameter("bias")
        drop.layer.bias = None  # type: ignore[assignment]
        undone.append(partial(setattr, drop.layer, "bias", bias))
        inner = norm_in(drop.norm)
        mean = inner._buffers.get("running_mean")
        if mean is not None:
            undone.append(partial(_write, mean, mean.clone()))
            _write(mean, mean.cpu().double() - bias.detach().cpu().double())

    def undo() -> None:
        for each in undone:
            each()

    return undo


def _write(buffer: torch.Tensor, value: torch.Tensor) -> None:
    buffer.copy_(value)
