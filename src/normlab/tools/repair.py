"""Running statistics that cannot be right, found and mended."""

import torch
from torch import nn

from normlab import errors
from normlab.tools.intact import intact
from normlab.tools.population_norms import Norm, norms_asked, set_statistics, why_none
from normlab.tools.ready import lazy_in
from normlab.tools.recalibrate import recalibrate_
from normlab.tools.recalibrate_batches import Batches
from normlab.tools.recalibrate_ranks import in_all
from normlab.tools.report import Report, Skipped, Touched
from normlab.tools.swap import described

NEVER = "statistics that never moved from mean 0 and variance 1"


def repair_(model: nn.Module, batches: Batches | None = None) -> Report:
    """Mends running statistics that are not finite, have a negative variance or never moved, in place.

    With batches, those layers get the statistics of the data (`recalibrate_`), and all others stay as they are.
    Without, the channels that are wrong start afresh from mean 0 and variance 1, and the others are kept; a layer whose
    statistics never moved is only reported.

    Args:
        model: any network; equal to the bit afterwards if this raises.
        batches: the training data, as `recalibrate_` takes it.

    Returns:
        What was wrong with which layer and what became of it; those that are sound as kept. Weights that are not finite
        are only reported.

    Raises:
        InvalidInputError: the batches cannot be used, as in `recalibrate_`.

    Source:
        PyTorch issue 88474: one batch with an infinite value, and a running variance is NaN for good.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2))
        >>> model[0].running_mean[1], model[0].running_var[1] = torch.inf, torch.nan
        >>> repair_(model).touched[0].change
        '1 of 2 channels not finite: mean 0 and variance 1 again'
    """
    errors.invalid_input("repair_", lazy_in(model))
    norms = norms_asked(model)
    wrong = {module for module in norms.values() if _said(module) and not why_none(module)}
    touched: list[Touched] = []
    skipped: list[Skipped] = []
    with intact(model):
        said = {name: _said(module) for name, module in norms.items()}
        measured: dict[str, str] = {}
        if batches is not None:  # all processes measure what is wrong in any of them, as none can do so by itself
            for name in set().union(*in_all(lambda: {name for name, module in norms.items() if module in wrong})):
                wrong.add(norms[name])
                said[name] = said[name] or "wrong in another process"
        if batches is not None and wrong:
            report = recalibrate_(model, batches, where=lambda name, module: module in wrong)
            measured = {each.name: each.change for each in report.touched}
        for name, module in norms.items():
            change = measured.get(name) or (_start_afresh(module) if module in wrong else "")
            learned = _not_finite(module)
            if change:
                words = f"{said[name]}: {change}" + (f"; {learned}" if learned else "")
                touched.append(Touched(name, described(module), words))
            else:
                words = "; ".join(filter(None, (_why_left(module, said[name], batches), learned)))
                sound = "its statistics are finite and have moved" if _held(module) else why_none(module)
                skipped.append(Skipped(name, described(module), words or sound, same=not words))
    return Report("repaired", tuple(touched), tuple(skipped))


def _said(module: nn.Module) -> str:
    """What is wrong with the running statistics of a layer; empty if nothing is."""
    held = _held(module)
    if held is None:
        return ""
    mean, var = held
    if bool((mean == 0).all() & (var == 1).all()):
        return NEVER
    counts = (
        (int((~(mean.isfinite() & var.isfinite())).sum()), "not finite"),
        (int((var < 0).sum()), "with a negative variance"),
    )
    return ", ".join(f"{count} of {len(mean)} channels {what}" for count, what in counts if count)


def _start_afresh(module: nn.Module) -> str:
    """Mean 0 and variance 1 where the statistics are wrong; the words for it, none for a layer that starts there."""
    held = _held(module)
    if not isinstance(module, Norm) or held is None or _said(module) == NEVER:
        return ""
    mean, var = held
    right = mean.isfinite() & var.isfinite() & (var >= 0)
    set_statistics(module, mean.where(right, 0.0), var.where(right, 1.0))
    if not bool(right.any()) and module.num_batches_tracked is not None:
        module.get_buffer("num_batches_tracked").zero_()
    return "mean 0 and variance 1 again"


def _why_left(module: nn.Module, said: str, batches: Batches | None) -> str:
    """Why a layer stays as it is although something is wrong with it; empty if nothing is."""
    if not said:
        return ""
    if reason := why_none(module):
        return f"{said}, but {reason}"
    return f"{said}: {'pass batches to measure them' if batches is None else 'no batch reaches it'}"


def _not_finite(module: nn.Module) -> str:
    """That what the layer has learned is not finite."""
    names = [name for name, each in module.named_parameters() if not bool(each.isfinite().all())]
    return f"its {' and '.join(names)} not finite, which only training can mend" if names else ""


def _held(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor] | None:
    mean, var = (getattr(module, name, None) for name in ("running_mean", "running_var"))
    return (mean, var) if isinstance(mean, torch.Tensor) and isinstance(var, torch.Tensor) else None
