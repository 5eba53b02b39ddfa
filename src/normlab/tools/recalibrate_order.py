"""In which order the layers of a model get their statistics."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from normlab import errors
from normlab.tools.kinds import described
from normlab.tools.moments import Moments, averaged, moving, pooled
from normlab.tools.population_norms import Norm, set_statistics
from normlab.tools.recalibrate_batches import Passes
from normlab.tools.recalibrate_ranks import Group, in_all
from normlab.tools.recalibrate_watch import Gathered, Watch


@dataclass(frozen=True)
class Final:
    """The statistics of a layer, and what they come from."""

    batches: int
    calls: int
    moments: Moments


@dataclass(frozen=True)
class Found:
    """The statistics of all layers, the batches of a pass in all processes, and whether they were alike in each."""

    final: dict[str, Final]
    batches: int
    alike: bool = True


def in_one_pass(watch: Watch, passes: Passes, group: Group, momentum: float | None) -> Found:
    """Every layer from one pass, in which each batch is normalized by its own statistics."""

    def gather() -> tuple[int, dict[str, Gathered]]:
        watch.begin(set(watch.norms))
        count, _ = passes.over(watch, "recalibrating")
        return count, {name: each.on_cpu() for name, each in watch.gathered.items()}

    found = in_all(gather, group, watch.tool)
    _check_any(watch, [count for count, _ in found])
    final = {
        name: each
        for name in watch.norms
        if (each := _final(watch, name, [gathered.get(name) for _, gathered in found], momentum))
    }
    return Found(final, sum(count for count, _ in found))


def layer_by_layer(watch: Watch, passes: Passes, group: Group, momentum: float | None) -> Found:
    """One layer after another in the order in which they are called, those before it with their final statistics.

    The first pass goes through the whole model, to see that order, and serves the layer that is called first. Each
    other one ends where its layer has been called for the last time.
    """

    def discover() -> tuple[int, list[tuple[str, ...]], set[str], Gathered | None]:
        watch.begin(None)
        count, orders = passes.over(watch, "recalibrating: the order of the layers")
        wanted = watch.wanted or set()
        return count, orders, wanted, _one(watch)

    found = in_all(discover, group, watch.tool)
    counts = [count for count, _, _, _ in found]
    _check_any(watch, counts)
    orders = [order for _, seen, _, _ in found for order in seen]
    firsts = set().union(*(wanted for _, _, wanted, _ in found))
    final: dict[str, Final] = {}
    alike = True
    names = in_call_order(orders)
    for place, name in enumerate(names):
        parts = [part for *_, part in found]
        if place or firsts != {name}:
            most = max(order.count(name) for order in orders)

            def gather(name: str = name, most: int = most, place: int = place) -> tuple[Gathered | None, bool]:
                watch.begin({name}, most)
                passes.over(watch, f"recalibrating: layer {place + 1} of {len(names)}")
                return _one(watch), passes.alike

            each = in_all(gather, group, watch.tool)
            parts, alike = [part for part, _ in each], alike and all(same for _, same in each)
        if result := _final(watch, name, parts, momentum):
            final[name] = result
            set_statistics(watch.norms[name], result.moments.mean, result.moments.var)
        watch.settle(name)
    return Found(final, sum(counts), alike)


def in_call_order(orders: Iterable[Sequence[str]]) -> list[str]:
    """One order out of those of several forward passes, which may call different layers.

    A layer that is new follows the one that it followed. Where two passes disagree, the first one decides.

    Example:
        >>> in_call_order([("a", "c", "a"), ("b", "c"), ("c", "d")])
        ['b', 'a', 'c', 'd']
    """
    found: list[str] = []
    for order in orders:
        place = 0
        for name in order:
            if name not in found:
                found.insert(place, name)
            place = max(place, found.index(name) + 1)
    return found


def _one(watch: Watch) -> Gathered | None:
    return next((each.on_cpu() for each in watch.gathered.values()), None)


def _final(watch: Watch, name: str, found: Iterable[Gathered | None], momentum: float | None) -> Final | None:
    """The statistics of a layer from what each process gathered; None if it was given nothing.

    Where the order counts, batches are taken in turn from one process after the other.
    """
    each = [one for one in found if one is not None]
    if not each:
        return None
    parts = [part for step in itertools.zip_longest(*(one.parts for one in each)) for part in step if part is not None]
    module = watch.norms[name]
    match watch.method:
        case "pooled":
            moments = pooled(parts)
        case "average":
            moments = averaged(parts)
        case "ema":
            moments = moving(parts, module.momentum if momentum is None else momentum)
    _check_fits(watch.tool, name, module, moments)
    return Final(sum(one.batches for one in each), sum(one.calls for one in each), moments)


def _check_any(watch: Watch, counts: Iterable[int]) -> None:
    if not any(counts):
        problem = errors.Problem("`batches` must hold at least one batch.", got="none", fix="pass the training data.")
        errors.invalid_input(watch.tool, [problem])


def _check_fits(tool: str, name: str, module: Norm, moments: Moments) -> None:
    here = f"{name or 'the model'}: {described(module)}"
    if moments.count < 2:
        problem = errors.Problem(
            "a variance needs two values a channel.",
            got=f"{here}: {moments.count} in all the batches",
            fix="pass more data.",
        )
        errors.invalid_input(tool, [problem])
    dtype = module.get_buffer("running_var").dtype
    if not bool(torch.cat([moments.mean, moments.var]).to(dtype).isfinite().all()):
        largest = float(torch.cat([moments.mean.abs(), moments.var]).max())
        problem = errors.Problem(
            f"statistics must fit into {str(dtype).removeprefix('torch.')}, in which the layer keeps them.",
            got=f"{here}: {largest:.3g}",
            fix="keep the layer in float32: PyTorch takes 16-bit inputs there.",
        )
        errors.invalid_input(tool, [problem])
