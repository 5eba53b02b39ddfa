"""The layers that normalize by running statistics, and the statistics of what enters them."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from normlab.layers.explicit import Explicit
from normlab.ops.checks import mask_like
from normlab.ops.moments import Moments
from normlab.tools.kinds import does_more, norms_of
from normlab.tools.moments import moments_of
from normlab.tools.norms import norm_in
from normlab.tools.where import Where, by_first_name

Norm = _NormBase


def norms_asked(model: nn.Module, where: Where[nn.Module] = None) -> dict[str, nn.Module]:
    """Every norm that is asked for, by the first of its names.

    Example:
        >>> list(norms_asked(nn.Sequential(nn.BatchNorm1d(2), nn.ReLU(), nn.LayerNorm(2))))
        ['0', '2']
    """
    return by_first_name(where, names_of_norms(model))


def names_of_norms(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every norm, by each of its names."""
    norms = set(map(norm_in, norms_of(model).values()))
    everywhere = model.named_modules(remove_duplicate=False)
    return [(name, module) for name, module in everywhere if module in norms or _holds(module)]


def why_none(module: nn.Module) -> str:
    """Why a norm has no running statistics to be set; empty if it has.

    Example:
        >>> why_none(nn.BatchNorm1d(2)), why_none(nn.InstanceNorm1d(2))
        ('', 'it keeps no running statistics')
    """
    if not _holds(module):
        return "it keeps no running statistics"
    if not isinstance(module, (_BatchNorm, _InstanceNorm)):
        return f"{type(module).__name__} is no batch norm of PyTorch, and what its statistics mean is not known"
    if isinstance(module, _InstanceNorm) and not module.track_running_stats:
        return "its track_running_stats is off, so that it never uses the statistics that it holds"
    return "it is frozen" if getattr(module, "normlab_frozen", False) else ""


def moments_at(
    module: Norm, args: tuple[Any, ...], named: dict[str, Any], together: bool, tool: str = "recalibrate_"
) -> list[Moments]:
    """The statistics of what enters a layer, without what its mask leaves out; none if nothing does.

    Args:
        module: the layer.
        args: those of its forward.
        named: its keyword arguments.
        together: whether all values of a channel are one set. If not, an instance norm has one for each sample.
        tool: who says so if the mask does not fit.
    """
    x = entering(args, named)
    at = 2 if does_more(module) else 1  # before the mask comes the residual
    mask = named.get("mask", args[at] if len(args) > at else None) if isinstance(module, Explicit) else None
    if _is_single(module, x):
        x, mask = x[None], None if mask is None else mask[None]
    axis = getattr(module, "axis", 1)
    by_sample = isinstance(module, _InstanceNorm) and not together
    parts = x.split(1) if by_sample else (x,)
    if mask is not None:
        real = mask_like(tool, x, mask, axis).select(axis, 0)
        reals = real.split(1) if by_sample else (real,)
        parts = tuple(part.movedim(axis, -1)[each] for part, each in zip(parts, reals, strict=True))
        axis = 1
    return [moments for part in parts if (moments := moments_of(part, axis)).count]


def entering(args: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    """What a layer is to normalize, among the arguments of its forward."""
    return next(each for each in (*args, *named.values()) if isinstance(each, torch.Tensor)).detach()


def use_own(module: Norm, args: tuple[Any, ...], named: dict[str, Any], moments: Moments | None) -> None:
    """Makes a layer in eval mode normalize what comes by the statistics of just that, as in training.

    They are put where the running ones are, so that no momentum, counter or process group has a part in it. An
    instance norm has statistics for each sample, and is put in train mode where these exist.

    Args:
        module: the layer.
        args: those of its forward.
        named: its keyword arguments.
        moments: of all that enters it; None if nothing does.
    """
    if isinstance(module, _InstanceNorm):
        x = entering(args, named)
        module.training = math.prod(x.shape[1 if _is_single(module, x) else 2 :]) > 1
    elif moments is not None:
        set_statistics(module, moments.mean, moments.var * ((moments.count - 1) / moments.count))


def set_statistics(module: Norm, mean: torch.Tensor, var: torch.Tensor) -> None:
    """Writes the running statistics of a layer in place."""
    running(module, "mean").copy_(mean)
    running(module, "var").copy_(var)


def running(module: Norm, which: str) -> torch.Tensor:
    """The running mean or variance that is in use."""
    return module.get_buffer(f"running_{which}{in_use(module)}")


def in_use(module: nn.Module) -> str:
    """What the names of its statistics end in: a layer that knows several domains has a set for each."""
    return str(getattr(module, "suffix", ""))


def _is_single(module: Norm, x: torch.Tensor) -> bool:
    """Whether this is one sample without a dimension of samples, as instance norms take it."""
    return isinstance(module, _InstanceNorm) and x.ndim == module._get_no_batch_dim()


def _holds(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), torch.Tensor) for name in ("running_mean", "running_var"))
