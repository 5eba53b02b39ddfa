"""The one runner: variants take turns in one process, call by call, so that what disturbs one disturbs all."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Call = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median, between what 20 % and 80 % of the calls stayed below."""

    low: float
    median: float
    high: float


def interleaved(
    calls: Mapping[str, Call], seconds: float, *, least: int = 5, warm_up: int = 2, clock: Clock = time.perf_counter
) -> tuple[dict[str, Timing], int]:
    """How long each call takes, and how many rounds that is taken from.

    A round is one call of each, in an order drawn anew (from a fixed seed), so that none always comes behind the same
    other one, whose threads may still spin and whose values are in the cache. What a call returns is dropped before
    the clock is read: to give the memory back is part of it.

    Args:
        calls: what is compared.
        seconds: when they are spent no further round begins.
        least: rounds that are made whatever they take.
        warm_up: rounds before, not counted: kernels are compiled, memory is asked for.
        clock: seconds since whenever.
    """
    names, order = list(calls), random.Random(0)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(warm_up):
        for call in calls.values():
            call()
    gc.disable()
    try:
        began, rounds = clock(), 0
        while rounds < least or clock() - began < seconds:
            for name in order.sample(names, len(names)):
                call = calls[name]
                start = clock()
                call()
                taken[name].append(clock() - start)
            rounds += 1
    finally:
        gc.enable()
    return {name: timing(values) for name, values in taken.items()}, rounds


def timing(seconds: Sequence[float]) -> Timing:
    """The median and the spread of what was taken.

    Example:
        >>> timing([1.0, 2.0, 3.0, 4.0, 100.0, 6.0])
        Timing(low=2.0, median=3.5, high=6.0)
    """
    ordered = sorted(seconds)
    fifth = len(ordered) // 5
    return Timing(ordered[fifth], statistics.median(ordered), ordered[-1 - fifth])
