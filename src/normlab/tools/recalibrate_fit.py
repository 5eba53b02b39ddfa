"""What is asked of the arguments of `recalibrate_`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn

from normlab import errors
from normlab.tools.ready import SCRIPTED, lazy_in, wrapper_in
from normlab.tools.recalibrate_watch import Method

Order = Literal["layers", "one_pass"]
# in these a forward waits for the other processes, which may have fewer batches
SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def unfit(model: nn.Module) -> list[errors.Problem]:
    """Why the layers of this model cannot be watched."""
    problems = lazy_in(model)
    if scripted := wrapper_in(model, SCRIPTED):
        rule = "`model` must not be scripted: what enters its layers cannot be seen."
        problems.append(errors.Problem(rule, got=scripted, fix="recalibrate first, then script."))
    if sharded := wrapper_in(model, SHARDED):
        rule = "`model` must not be sharded: each forward would wait for the other processes."
        problems.append(errors.Problem(rule, got=sharded, fix="recalibrate first, then shard."))
    return problems


def unfit_settings(
    method: str, order: str, momentum: float | None, max_batches: int | None
) -> Iterator[errors.Problem]:
    """Which settings cannot be."""
    if method not in get_args(Method):
        fix = errors.did_you_mean(str(method), get_args(Method))
        yield errors.Problem("`method` must say how batches become one.", got=repr(method), fix=fix)
    elif momentum is not None and method != "ema":
        rule = "`momentum` is the weight of the newest batch in a moving average."
        yield errors.Problem(rule, got=f'momentum = {momentum} with method="{method}"', fix='pass method="ema".')
    if order not in get_args(Order):
        fix = errors.did_you_mean(str(order), get_args(Order))
        yield errors.Problem("`order` must say which layer comes when.", got=repr(order), fix=fix)
    if momentum is not None and not 0 < momentum <= 1:
        yield errors.Problem("`momentum` must lie in (0, 1].", got=f"momentum = {momentum}", fix="pass 0.1.")
    if max_batches is not None and max_batches < 1:
        rule = "`max_batches` must be at least 1."
        yield errors.Problem(rule, got=f"max_batches = {max_batches}", fix="pass None for all.")


def other_order(tool: str) -> str:
    """The way out that only one of the tools has."""
    return ', or order="one_pass"' if tool == "recalibrate_" else ""


def unfit_batches(batches: Any, passes: int, tool: str = "recalibrate_") -> Iterator[errors.Problem]:
    """Why these are no batches, or none that can be gone through so many times."""
    if isinstance(batches, torch.Tensor | Mapping | str):
        rule = "`batches` must be several batches: a loader, a list, or a function that makes an iterator."
        got = errors.describe(batches=batches) if isinstance(batches, torch.Tensor) else type(batches).__name__
        yield errors.Problem(rule, got=got, fix="pass [x] for a single batch.")
    elif isinstance(batches, Iterator):  # a loader is none: asking it for one would draw its random numbers
        if passes > 1:
            yield errors.Problem(
                f"`batches` are gone through once for each of {passes} layers.",
                got=f"{type(batches).__name__}, which gives them only once",
                fix=f"pass a list, a loader or a function that makes the iterator{other_order(tool)}.",
            )
    elif not callable(batches) and not isinstance(batches, Iterable):
        rule = "`batches` must be a loader, a list, or a function that makes an iterator."
        yield errors.Problem(rule, got=type(batches).__name__)
