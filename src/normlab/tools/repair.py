"""Running statistics that cannot be right, found and mended."""

import torch
from torch import nn

from normlab import errors
from normlab.tools.intact import intact
from normlab.tools.kinds import described
from normlab.tools.population_norms import in_use, norms_asked, why_none
from normlab.tools.ready import lazy_in, not_a_model
from normlab.tools.recalibrate import recalibrated
from normlab.tools.recalibrate_batches import Batches
from normlab.tools.recalibrate_ranks import in_all
from normlab.tools.report import Report, Skipped, Touched

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
    errors.invalid_input("repair_", not_a_model(model))
    errors.invalid_input("repair_", lazy_in(model))
    norms = norms_asked(model)
    touched: list[Touched] = []
    skipped: list[Skipped] = []
    with intact(model):
        said = {name: _said(module, in_use(module)) for name, module in norms.items()}
        wrong = {name for name, module in norms.items() if said[name] and not why_none(module)}
        measured: dict[str, str] = {}
        if batches is not None:  # what is wrong in one process is measured in all, as none can do so by itself
            wrong.update(*in_all(lambda: wrong, tool="repair_"))
            modules = {norms[name] for name in wrong}
            if wrong:
                report = recalibrated("repair_", model, batches, where=lambda _, module: module in modules)
                measured = {each.name: each.change for each in report.touched}
        for name, module in norms.items():
            changes = [f"{said[name] or 'wrong in another process'}: {measured[name]}"] if name in measured else []
            changes += _started_afresh(module)
            learned = _not_finite(module)
            if changes:
                touched.append(Touched(name, described(module), "; ".join([*changes, *learned])))
                continue
            left = [*_left(module, said[name], batches), *learned]
            sound = "its statistics are finite and have moved" if _domains(module) else why_none(module)
            skipped.append(Skipped(name, described(module), "; ".join(left) or sound, same=not left))
    return Report("repaired", tuple(touched), tuple(skipped))


def _domains(module: nn.Module) -> list[str]:
    """What the names of running statistics end in: one empty text, but for a layer with several domains."""
    start = "running_var"
    return [
        name.removeprefix(start)
        for name, each in module._buffers.items()
        if name.startswith(start) and each is not None
    ]


def _held(module: nn.Module, domain: str) -> tuple[torch.Tensor, torch.Tensor]:
    return module.get_buffer(f"running_mean{domain}"), module.get_buffer(f"running_var{domain}")


def _said(module: nn.Module, domain: str) -> str:
    """What is wrong with running statistics of a layer; empty if nothing is, or if there are none."""
    if domain not in _domains(module):
        return ""
    mean, var = _held(module, domain)
    if bool((mean == 0).all() & (var == 1).all()):
        return NEVER
    counts = (
        (int((~(mean.isfinite() & var.isfinite())).sum()), "not finite"),
        (int((var < 0).sum()), "with a negative variance"),
    )
    words = ", ".join(f"{count} of {len(mean)} channels {what}" for count, what in counts if count)
    return f"{words} in domain {domain.removeprefix('_')}" if words and domain else words


def _started_afresh(module: nn.Module) -> list[str]:
    """Gives mean 0 and variance 1 to the channels whose statistics are wrong; what was done, in words."""
    changes = []
    for domain in [] if why_none(module) else _domains(module):
        said = _said(module, domain)
        if said in ("", NEVER):
            continue
        mean, var = _held(module, domain)
        right = mean.isfinite() & var.isfinite() & (var >= 0)
        mean.copy_(mean.where(right, 0.0))
        var.copy_(var.where(right, 1.0))
        if not bool(right.any()) and module.num_batches_tracked is not None:
            module.get_buffer(f"num_batches_tracked{domain}").zero_()
        changes.append(f"{said}: mean 0 and variance 1 again")
    return changes


def _left(module: nn.Module, said: str, batches: Batches | None) -> list[str]:
    """Why a layer stays as it is although something is wrong with it."""
    if not said:
        return []
    if reason := why_none(module):
        return [f"{said}, but {reason}"]
    return [f"{said}: {'pass batches to measure them' if batches is None else 'no batch reaches it'}"]


def _not_finite(module: nn.Module) -> list[str]:
    """That what the layer has learned is not finite."""
    names = [name for name, each in module.named_parameters() if not bool(each.isfinite().all())]
    verb = "is" if len(names) == 1 else "are"
    return [f"its {' and '.join(names)} {verb} not finite: restore an earlier checkpoint"] if names else []
