"""Several processes that share each batch, as `torchrun` starts them: gloo, DistributedDataParallel."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """This process among those that train one network together."""

    rank: int = 0
    size: int = 1

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """The samples of a batch that are this process's: every `size`-th."""
        return batch[self.rank :: self.size]

    def all(self, flag: bool) -> bool:
        """Whether the flag is set in every process."""
        if self.size == 1:
            return flag
        found = torch.tensor(int(flag))
        dist.all_reduce(found, op=dist.ReduceOp.MIN)
        return bool(found)

    def mean(self, value: float) -> float:
        """The mean of a number over the processes."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found)
        return float(found) / self.size

    def told(self, text: str) -> str:
        """What the first process says, in all of them."""
        if self.size == 1:
            return text
        said = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8).clone()
        length = torch.tensor(len(said))
        dist.broadcast(length, src=0)
        heard = said if self.rank == 0 else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(heard, src=0)
        return bytes(heard.tolist()).decode()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def started_by_torchrun() -> Processes:
    """This process's place, as `torchrun` tells it by the environment.

    Example:
        >>> started_by_torchrun()
        Processes(rank=0, size=1)
    """
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@contextmanager
def connected() -> Iterator[Processes]:
    """The processes of this run, connected; alone where `torchrun` was not used."""
    here = started_by_torchrun()
    if here.size == 1 or dist.is_initialized():
        yield here
        return
    dist.init_process_group("gloo")
    try:
        yield here
    finally:
        gc.collect()  # a network in a ring of references would end its connections when the interpreter is half gone
        dist.destroy_process_group()
