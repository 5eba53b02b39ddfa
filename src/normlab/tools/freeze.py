"""Norms that stay as they are in evaluation, whatever mode the model is in."""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import nn

from normlab import errors
from normlab.layers.explicit import Explicit
from normlab.tools.frozen import Frozen, freeze_layer, let_learn, unfreeze_layer
from normlab.tools.intact import intact
from normlab.tools.kinds import described, kind_of, norms_of
from normlab.tools.norms import norm_in
from normlab.tools.ready import SCRIPTED, lazy_in, not_a_model, wrapper_in
from normlab.tools.report import Report, Skipped, Touched
from normlab.tools.where import Where, by_first_name, unmatched

Affine = Literal["keep", "frozen", "trainable"]
ALREADY = "it is frozen already"
AWAIT_GRADIENTS = {"DistributedDataParallel", "FullyShardedDataParallel"}


def freeze_(model: nn.Module, where: Where[nn.Module] = None, affine: Affine = "keep") -> Report:
    """Keeps norms with running statistics in evaluation mode, in place: `model.train()` no longer wakes them.

    Their statistics do not move any more, whatever passes through. Everything else stays: names and values in the
    `state_dict`, hooks, parameters that an optimizer holds; copies and pickles are frozen too.

    Args:
        model: any network, compiled or not; equal to the bit afterwards if this raises.
        where: which norms, by name ("layer1" is all within), by pattern ("*.norm2"), several of these, or a function of
            name and layer. None is every one.
        affine: what becomes of weight and bias. "keep" leaves them as they are, "frozen" stops their training and drops
            the gradients that they hold, "trainable" lets them be trained.

    Returns:
        Which were frozen, and which were not with the reason.

    Raises:
        InvalidInputError: `where` names nothing, the model is scripted or has lazy layers, or what is trained is to
            change in a model that is wrapped for several processes.

    Differs from torch:
        `eval()` on a layer ends at the next `train()` of the model, `requires_grad_(False)` leaves the statistics
        moving, and `track_running_stats = False` normalizes with those of the batch in training.

    Source:
        PyTorch issue 66073.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        >>> freeze_(model).title()
        '1 of 1 norm layer frozen'
        >>> model.train()[1].training
        False
    """
    errors.invalid_input("freeze_", not_a_model(model))
    named = _named(model)
    errors.invalid_input("freeze_", _problems(model, where, affine, named))
    touched: list[Touched] = []
    skipped: list[Skipped] = []
    with intact(model):
        asked = by_first_name(where, named)
        reasons = {module: _why_not(module) for module in asked.values()}
        others = [each for each in model.modules() if reasons.get(each, "it is not asked for") not in ("", ALREADY)]
        kept = {id(each) for other in others for each in other._parameters.values()}
        for name, module in asked.items():
            layer, words = described(module), ""
            reason = reasons[module]
            if not reason:
                words = _said_of(module)
                freeze_layer(module)
            if affine != "keep" and isinstance(module, Frozen):
                learned = let_learn(module, affine == "trainable", kept)
                words = "; ".join(filter(None, (words, learned)))
            if words:
                touched.append(Touched(name, layer, words))
            else:
                same = isinstance(module, Frozen) or _is_constant(module)
                skipped.append(Skipped(name, layer, reason, same))
    return Report("frozen", tuple(touched), tuple(skipped))


def unfreeze_(model: nn.Module, where: Where[nn.Module] = None) -> Report:
    """Takes back what `freeze_` did, in place: each layer is of its class again, in the mode that was last asked for.

    Weight and bias can be trained again if they could before. The statistics are those that were frozen.

    Args:
        model: the network, or a copy of it; equal to the bit afterwards if this raises.
        where: which norms, as in `freeze_`; None is every one.

    Returns:
        Which were unfrozen, and which were not with the reason.

    Raises:
        InvalidInputError: `where` names nothing.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(8)).eval()
        >>> freeze_(model).touched[0].layer, unfreeze_(model.train()).touched[0].change
        ('BatchNorm1d(8)', 'follows train() and eval() again, and is in train mode')
    """
    errors.invalid_input("unfreeze_", not_a_model(model))
    named = _named(model)
    errors.invalid_input("unfreeze_", unmatched("where", where, [name for name, _ in named], "norm layer"))
    touched: list[Touched] = []
    skipped: list[Skipped] = []
    with intact(model):
        for name, module in by_first_name(where, named).items():
            layer = described(module)
            if not isinstance(module, Frozen):
                skipped.append(Skipped(name, layer, "it is not frozen", same=True))
            elif reason := unfreeze_layer(module):
                skipped.append(Skipped(name, layer, reason))
            else:
                mode = "train" if module.training else "eval"
                change = f"follows train() and eval() again, and is in {mode} mode"
                touched.append(Touched(name, described(module), change))
    return Report("unfrozen", tuple(touched), tuple(skipped))


def _named(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every norm, by each of its names."""
    norms = set(map(norm_in, norms_of(model).values()))
    return [(name, module) for name, module in model.named_modules(remove_duplicate=False) if module in norms]


def _problems(
    model: nn.Module, where: Where[nn.Module], affine: str, named: list[tuple[str, nn.Module]]
) -> Iterator[errors.Problem]:
    yield from unmatched("where", where, [name for name, _ in named], "norm layer")
    if affine not in get_args(Affine):
        fix = errors.did_you_mean(str(affine), get_args(Affine))
        yield errors.Problem("`affine` must say what becomes of weight and bias.", got=repr(affine), fix=fix)
    if scripted := wrapper_in(model, SCRIPTED):
        rule = "`model` must not be scripted: its layers have no class of their own."
        yield errors.Problem(rule, got=scripted, fix="freeze first, then script.")
    if affine != "keep" and (wrapped := wrapper_in(model, AWAIT_GRADIENTS)):
        rule = "what is trained cannot change in a wrapped model: its gradients are awaited."
        yield errors.Problem(rule, got=wrapped, fix='freeze first, then wrap, or pass affine="keep".')
    yield from lazy_in(model)


def _why_not(module: nn.Module) -> str:
    """Why a norm is not to be frozen; empty if it is."""
    if isinstance(module, Frozen):
        return ALREADY
    if not _statistics(module):
        if isinstance(module, nn.modules.batchnorm._NormBase):
            return "it has no running statistics: in evaluation too it normalizes with those of its input"
        return "it has no running statistics"
    if _is_constant(module):
        return "its statistics, weight and bias are constants"
    if nn.utils.parametrize.is_parametrized(module):
        return "its weight is computed by a parametrization: remove that, freeze, and register it again"
    if kind_of(module) == "instance" and not module.track_running_stats:
        return (
            "`track_running_stats` was set to False after it was built, so that in evaluation too it normalizes with "
            "the statistics of its input: set it to True first"
        )
    return ""


def _said_of(module: nn.Module) -> str:
    """What it will do from now on, with what the user should know of it."""
    words = "keeps its running statistics, and normalizes with them"
    if kind_of(module) is None and not isinstance(module, Explicit):
        words = "stays in evaluation mode, whatever its own forward makes of that"
    elif getattr(module, "normalize_with", "mode") == "batch":
        words = "keeps its running statistics, and normalizes with those of the batch, as it is told to"
    statistics = {name: each for name, each in _statistics(module).items() if not each.is_meta}
    if not all(bool(each.isfinite().all()) for each in statistics.values()):
        words += "; they are not finite"
    elif statistics and all(
        bool((each == float(name.startswith("running_var"))).all()) for name, each in statistics.items()
    ):
        words += "; they are those of a new layer"
    if getattr(module, "track_running_stats", True) is False:
        words += "; `track_running_stats=False` had it normalize with those of the batch in training"
    return words


def _statistics(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: each for name, each in module._buffers.items() if name.startswith("running_") and each is not None}


def _is_constant(module: nn.Module) -> bool:
    """Whether it is the frozen norm of torchvision or detectron2, or one like it: buffers only."""
    return "weight" in module._buffers and not any(True for _ in module.parameters())
