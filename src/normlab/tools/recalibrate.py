"""Population statistics from data, for every layer that normalizes by running ones."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from normlab import errors
from normlab.layers.explicit import explicit_layers, let_fall
from normlab.layers.scopes import taken
from normlab.tools.evaluating import inference
from normlab.tools.intact import intact
from normlab.tools.kinds import described
from normlab.tools.population_norms import (
    Norm,
    in_use,
    names_of_norms,
    norms_asked,
    running,
    set_statistics,
    why_none,
)
from normlab.tools.reached import left_alone
from normlab.tools.ready import not_a_model
from normlab.tools.recalibrate_batches import Batches, Call, Passes, call_by_structure
from normlab.tools.recalibrate_fit import Order, unfit, unfit_batches, unfit_settings
from normlab.tools.recalibrate_order import Final, Found, in_one_pass, layer_by_layer
from normlab.tools.recalibrate_ranks import Group
from normlab.tools.recalibrate_watch import Method, Watch
from normlab.tools.report import Report, Skipped, Touched
from normlab.tools.where import Where, unmatched

FEW = 100  # values of a channel, below which its variance is off by a seventh, √(2 / values), or more


def recalibrate_(
    model: nn.Module,
    batches: Batches,
    method: Method = "pooled",
    *,
    order: Order = "layers",
    call: Call | None = None,
    momentum: float | None = None,
    max_batches: int | None = None,
    where: Where[nn.Module] = None,
    progress: bool = False,
    group: Group = None,
) -> Report:
    """Sets the running statistics of every batch norm, and of every instance norm that uses some, from data.

    Everything is in eval mode meanwhile, so that dropout is off. Statistics are gathered in float64 and written in
    place at the end; `num_batches_tracked` of a batch norm becomes the number of calls that they come from. One that is
    frozen (`freeze_`) or that no batch reaches is left as it is; one that is merely in eval mode is recalibrated, and
    stays in it. Of a layer with several domains (`DomainBatchNorm2d`) the one in use is recalibrated.

    A layer that is called several times in a forward gets the statistics of all its calls together. While they are
    gathered each call is normalized by its own batch: if one call feeds another, they are not exactly those of what the
    layer is given in the final network. The report says which layers were called several times.

    Under `torch.distributed` every process must call this, each with its own batches, of which some may have none: all
    of them end with the same statistics, those of all batches.

    Args:
        model: any network, averaged, wrapped in `DistributedDataParallel` or compiled ones too. If this raises, it is
            as before to the bit.
        batches: the training data, in any sizes: a loader, a list, or a function that makes a new iterator. Each pass
            starts from the same random state of PyTorch, so that a loader that shuffles by it gives the same batches in
            the same order. One that draws elsewhere (a `generator` of its own, `random`, NumPy) gives others in each
            pass: without `max_batches` still the same data in another order, with it other data for each layer, which
            the title of the report says. The number of batches must be the same.
        method: `pooled`: mean and unbiased variance of all values. `average`: the mean over batches of their means and
            of their unbiased variances. `ema`: PyTorch's moving average in the order of the batches, which starts from
            the first. An instance norm takes part in `pooled` with all values of a channel, as it normalizes by them
            in eval mode, and in the others with the mean over its samples, as in training.
        order: `layers`: one layer after the other, from inputs that are normalized by the final statistics of those
            before it: what the network will see in eval mode. It takes a pass for each layer, which ends at that layer.
            `one_pass`: all layers from one pass in which each batch is normalized by its own statistics, as in
            training; from the second layer on they miss the spread that this takes away between the batches.
        call: what to do with the model and a batch. Without it, a tensor goes in as it is, of a tuple or list the first
            element, of a dictionary each value by its name. It is given the model without a wrapper of distributed
            training, and the batch on the device of the model.
        momentum: weight of the newest batch in `ema`; None for that of each layer.
        max_batches: how many batches to take of each pass, in each process; None for all.
        where: which norms, by name ("layer1" is all within), by pattern ("*.norm2"), several of these, or a function of
            name and layer. None is every one.
        progress: whether a bar is shown on stderr.
        group: the processes that take part; None for all of them, "alone" for this one by itself.

    Returns:
        How far the statistics of each layer moved, in deviations of its input, and which layers were left and why.

    Raises:
        InvalidInputError: an argument cannot be used, there is no batch, what enters a layer is not finite, there are
            too few values for a variance, a statistic does not fit into the dtype of the layer, or a later pass has
            another number of batches than the first. What the model raises passes through.
        NormlabError: another process failed.

    Differs from torch:
        `torch.optim.swa_utils.update_bn` is `average` in one pass, with dropout on, and leaves every layer in one mode.

    Source:
        Ioffe & Szegedy 2015, algorithm 2 (average); Chan, Golub & LeVeque 1979 (pooled).

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.BatchNorm1d(1))
        >>> print(recalibrate_(model, [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0]])]).touched[0].change)
        mean moved by 1 deviation, variance × 4, only 3 values a channel
        >>> model[0].running_mean, model[0].running_var
        (tensor([2.]), tensor([4.]))
    """
    return recalibrated(
        "recalibrate_", model, batches, method, order=order, call=call, momentum=momentum, max_batches=max_batches,
        where=where, progress=progress, group=group,
    )  # fmt: skip


def recalibrated(
    tool: str,
    model: nn.Module,
    batches: Batches,
    method: Method = "pooled",
    *,
    order: Order = "layers",
    call: Call | None = None,
    momentum: float | None = None,
    max_batches: int | None = None,
    where: Where[nn.Module] = None,
    progress: bool = False,
    group: Group = None,
) -> Report:
    """`recalibrate_` under the name of the tool that uses it, which its errors carry."""
    errors.invalid_input(tool, not_a_model(model))
    misnamed = unmatched("where", where, [name for name, _ in names_of_norms(model)], "norm layer")
    asked = {} if misnamed else norms_asked(model, where)
    norms = {name: each for name, each in asked.items() if isinstance(each, Norm) and not why_none(each)}
    errors.invalid_input(
        tool,
        [
            *unfit(model),
            *misnamed,
            *unfit_settings(method, order, momentum, max_batches),
            *unfit_batches(batches, len(norms) if order == "layers" else 1, tool),
        ],
    )
    found = Found({}, 0)
    with intact(model):
        if norms:
            watch = Watch(norms, method, tool)
            passes = Passes(model, batches, call or call_by_structure, max_batches, progress)
            commits = taken(explicit_layers(model), let_fall)
            with inference(model), left_alone(model), commits, watch.watching(), passes.shown():
                found = (layer_by_layer if order == "layers" else in_one_pass)(watch, passes, group, momentum)
        touched = [
            Touched(name, described(norms[name]), _set(norms[name], final) + _source(final, found, order))
            for name, final in found.final.items()
        ]
    skipped = [
        Skipped(name, described(module), why_none(module) or "no batch reaches it")
        for name, module in asked.items()
        if name not in found.final
    ]
    return Report(_done(found), tuple(touched), tuple(skipped))


def _set(module: Norm, final: Final) -> str:
    """Writes the statistics of a layer; says how far they moved."""
    mean, var = (running(module, which).clone().cpu().double() for which in ("mean", "var"))
    new = final.moments
    set_statistics(module, new.mean, new.var)
    # an instance norm leaves its counter at 0; by that of a batch renormalization it knows how far training is
    if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None and not hasattr(module, "schedule"):
        module.get_buffer(f"num_batches_tracked{in_use(module)}").fill_(final.calls)
    if not bool((mean.isfinite() & var.isfinite() & (var > 0)).all()):
        return "statistics set anew"
    furthest = float(((new.mean - mean).abs() / (new.var + module.eps).sqrt()).max())
    moved = f"{round(furthest, 4):.2g}"  # without the roundings of statistics that were right
    least, most = (f"{float(each):.2g}" for each in (new.var / var).aminmax())
    ratio = least if least == most else f"{least} to {most}"
    up_to = "up to " if len(mean) > 1 else ""
    return f"mean moved by {up_to}{moved} deviation{'' if moved == '1' else 's'}, variance × {ratio}"


def _source(final: Final, found: Found, order: Order) -> str:
    """What is remarkable about where the statistics of a layer come from, to be put behind what was done."""
    words = ""
    if final.batches != found.batches:
        words += f", from {final.batches} of {found.batches} batches"
    if final.moments.count < FEW:
        words += f", only {final.moments.count} values a channel"
    if final.calls != final.batches:
        words += f", {final.calls} calls"
        words += ": approximate if one feeds another" if order == "layers" else ""
    return words


def _done(found: Found) -> str:
    """What the title says of the whole."""
    if not found.batches:
        return "recalibrated"
    source = f"recalibrated from {found.batches} batch{'' if found.batches == 1 else 'es'}"
    return source if found.alike else f"{source}, which were others in each pass"
