"""What a run left to be drawn; a run that never began left nothing, which is not an error."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from normlab.lab.grid import Histogram
from normlab.lab.load import Place, Results, Run
from normlab.lab.record import ENV, HISTOGRAMS, METRICS

Line = Mapping[str, Any]
Item = TypeVar("Item")


def lines(run: Run) -> Sequence[Line]:
    """The measurements of a run, one an epoch; none if it never began."""
    return run.metrics if (run.folder / METRICS).exists() else ()


def counted(run: Run) -> Mapping[Place, Histogram]:
    """The histograms of a run; none if it never began."""
    return run.histograms if (run.folder / HISTOGRAMS).exists() else {}


def environment(run: Run) -> Mapping[str, Any]:
    """What the run was made on; empty if it never began."""
    return run.environment if (run.folder / ENV).exists() else {}


def last_epoch(results: Results) -> int:
    """The last epoch that any run was measured at."""
    return max((line["epoch"] for run in results.runs for line in lines(run)), default=0)


def in_order(layers: Sequence[str]) -> list[str]:
    """Layers from input to output.

    Example:
        >>> in_order(["output", "10", "2", "input", "2"])
        ['input', '2', '10', 'output']
        >>> in_order(["stem", "2.norm", "1.norm"])
        ['stem', '2.norm', '1.norm']
    """
    found = list(dict.fromkeys(layers))
    places = {"input": -1.0, "output": float("inf")} | {layer: float(layer) for layer in found if layer.isdigit()}
    # names of another sort come as the network has them
    return sorted(found, key=places.__getitem__) if all(layer in places for layer in found) else found


def evenly_spaced(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced, the first and the last among them.

    Example:
        >>> evenly_spaced(range(1, 101), 4)
        [1, 34, 67, 100]
    """
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def shown_epochs(last: int, most: int) -> list[int]:
    """Every n-th epoch and the last one, `most` at the most: a constant step, so that a slider can find the nearest.

    Example:
        >>> shown_epochs(5, 99), shown_epochs(10, 5)
        ([0, 1, 2, 3, 4, 5], [0, 3, 6, 9, 10])
    """
    step = 1
    while -(-last // step) + 1 > max(most, 2):
        step += 1
    return [*range(0, last, step), last]
