"""The same work in every process of a group, and what all of them found."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch.distributed as dist

from normlab import errors

Found = TypeVar("Found")
Group = dist.ProcessGroup | Literal["alone"] | None


def in_all(work: Callable[[], Found], group: Group = None, tool: str = "recalibrate_") -> list[Found]:
    """What each process found, by rank; if the work fails in one, it fails in all.

    Args:
        work: what this process does; what it returns can be pickled.
        group: the processes; None for all of them, "alone" for this one, whatever the others do.
        tool: who says that the work failed in another process.

    Raises:
        NormlabError: the work failed in another process. What it raises in this one passes through.

    Example:
        >>> in_all(lambda: "found")
        ['found']
    """
    if group == "alone" or not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return [work()]
    mine: Found | None = None
    failure: Exception | None = None
    try:
        mine = work()
    except Exception as error:
        failure = error
    said = None if failure is None else f"{type(failure).__name__}: {failure}"
    found: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, (mine, said), group=group)
    if failure is not None:
        raise failure
    for rank, (_, words) in enumerate(found):
        if words is not None:
            got = f"process {rank}: {words}"
            problem = errors.Problem("every process must get through its batches.", got=got)
            raise errors.NormlabError(errors.message(tool, problem))
    return [each for each, _ in found]
