"""Batch statistics over every process, and back to each process by itself."""

from typing import Any

import torch.distributed as dist
from torch import nn

from normlab import errors
from normlab.layers.adopt import adopt, adopted_class, disown
from normlab.layers.batch_norm import BatchNormOptions
from normlab.tools.intact import intact
from normlab.tools.kinds import described, kind_of, norms_of
from normlab.tools.norms import norm_in
from normlab.tools.reached import reached_norms
from normlab.tools.ready import SCRIPTED, not_a_model, wrapper_in
from normlab.tools.report import Report, Skipped, Touched

STOCK = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def sync_(model: nn.Module, group: dist.ProcessGroup | None = None) -> Report:
    """Batch norms take their statistics over all processes of `torch.distributed`, in place, on CPU and GPU.

    The statistics are those of all batches together, also where these differ in size or are empty: every process has
    to call the model as often. Until `init_process_group` is called, each process is alone and nothing differs.
    Layers stay where they are and become ours by their class; a subclass keeps its own forward.

    Args:
        model: any network, wrapped for several processes or not.
        group: of processes; all, if none is given.

    Returns:
        What was synchronized, and what was not with the reason.

    Raises:
        InvalidInputError: the model is scripted.

    Differs from torch:
        `torch.nn.SyncBatchNorm.convert_sync_batchnorm` needs a GPU, puts other layers in the place of the old ones and
        so loses the forward of a subclass and the hooks, and has no way back.

    Source:
        Chan, Golub & LeVeque (1979) for the merging.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        >>> sync_(model).title(), model[1].synced
        ('1 of 1 norm layer synchronized', True)
    """
    _refuse("sync_", model)
    touched, skipped = [], []
    with intact(model):
        for name, module in norms_of(model).items():
            layer = norm_in(module)
            reason = _why_alone(layer)
            if reason:
                already = isinstance(layer, BatchNormOptions) and layer.synced
                skipped.append(Skipped(name, described(module), reason, already))
                continue
            before = type(layer)
            adopt(layer)
            if type(layer) is not before:
                layer.__dict__["unsynced_class"] = before
            layer.__dict__.update(synced=True, process_group=group)
            touched.append(Touched(name, described(module), "statistics over all processes"))
    return Report("synchronized", tuple(touched), tuple(skipped))


def unsync_(model: nn.Module, example: Any = None) -> Report:
    """Batch norms take their statistics in each process by itself again, in place.

    Undoes `sync_`, and turns `torch.nn.SyncBatchNorm` into the batch norm of as many dimensions as its input has.

    Args:
        model: any network.
        example: a batch that the model takes, to see these dimensions; needed for `torch.nn.SyncBatchNorm` alone.

    Returns:
        What was changed, and what was not with the reason.

    Raises:
        InvalidInputError: the model is scripted.

    Differs from torch:
        torch has no way back.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.SyncBatchNorm(3))
        >>> unsync_(model, torch.zeros(1, 3, 4, 4)).title(), model
        ('1 of 1 norm layer by itself again', Sequential(
          (0): BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
        ))
    """
    _refuse("unsync_", model)
    touched, skipped = [], []
    with intact(model):
        norms = norms_of(model)
        reached = {} if example is None else reached_norms(model, norms.values(), example)
        for name, module in norms.items():
            layer = norm_in(module)
            was = described(module)
            if not isinstance(layer, nn.SyncBatchNorm) and not getattr(layer, "synced", False):
                skipped.append(Skipped(name, was, "it is by itself", same=True))
                continue
            if getattr(layer, "normlab_frozen", False):
                skipped.append(Skipped(name, was, "it is frozen: unfreeze it first"))
                continue
            seen = reached.get(module)
            reason = _alone(layer, None if seen is None else len(seen.shapes[0]))
            if reason:
                skipped.append(Skipped(name, was, reason))
            else:
                touched.append(Touched(name, was, f"{type(layer).__name__} of each process"))
    return Report("by itself again" if len(touched) == 1 else "by themselves again", tuple(touched), tuple(skipped))


def _alone(layer: nn.Module, dimensions: int | None) -> str:
    """Takes a layer back, or says why not."""
    if isinstance(layer, nn.SyncBatchNorm) and "unsynced_class" not in layer.__dict__:
        if dimensions is None:
            return "the number of dimensions of its input is not known: pass an example that reaches it"
        if type(layer).forward not in (nn.SyncBatchNorm.forward, BatchNormOptions.forward):
            return f"{type(layer).__name__} has a forward of its own"
        disown(layer, STOCK[dimensions - 2])
    elif (before := layer.__dict__.get("unsynced_class", nn.SyncBatchNorm)) and not issubclass(
        before, nn.SyncBatchNorm
    ):
        disown(layer, before)
    for name in ("synced", "process_group", "unsynced_class"):
        layer.__dict__.pop(name, None)
    return ""


def _why_alone(layer: nn.Module) -> str:
    if getattr(layer, "normlab_frozen", False):
        return "it is frozen, and normalizes by its running statistics"
    if isinstance(layer, BatchNormOptions):
        return "it is synchronized already" if layer.synced else layer.why_not_synced
    if kind_of(layer) not in ("batch", None):
        return f"{kind_of(layer)} norm takes its statistics from each sample, whatever other processes have"
    found = adopted_class(layer)
    if not isinstance(found, str):
        return "" if issubclass(found, BatchNormOptions) else "it takes its statistics from each sample"
    return found


def _refuse(where: str, model: nn.Module) -> None:
    errors.invalid_input(where, not_a_model(model))
    if wrapped := wrapper_in(model, SCRIPTED):
        rule = "`model` must not be scripted: its layers cannot be changed any more."
        errors.invalid_input(where, [errors.Problem(rule, got=wrapped, fix=f"{where} first, then script it.")])
