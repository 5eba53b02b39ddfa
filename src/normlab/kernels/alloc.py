"""The only place where kernels get memory for what they return.

A large tensor comes fresh from the system, which clears it page by page: that costs more than all that is computed
in it. Batch norm of (32, 64, 112, 112), 103 MB, takes 32 ms that way, 12 ms in pages of 2 MB, and 6 ms into memory
that was in use before. So what is freed here is kept for the next tensor of about that size, as PyTorch does on a GPU.
"""

import mmap
import threading
import weakref
from bisect import bisect_left, insort

import numpy as np
import torch
from torch import Tensor

# Bytes. Below, what the C library hands out was mostly in use before: at 1 MB a lease, 8 µs, is a tenth of the kernel.
LEAST = 1 << 20
# Bytes of idle memory that are kept; the oldest goes first.
KEPT = 4 << 30
PAGE = 2 << 20


class _Pool:
    """Blocks of memory that nothing uses, by size."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a collection of garbage may free a tensor while one is made
        self.idle: list[tuple[int, int]] = []  # size, number; ordered
        self.blocks: dict[int, mmap.mmap] = {}  # by number, in the order in which they became idle
        self.number = 0
        self.bytes = 0

    def lease(self, size: int) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
        """So many bytes, which come back when the array that is returned is freed."""
        block = self._taken(size) or _mapped(size)
        lease = np.frombuffer(block, np.uint8, size)
        weakref.finalize(lease, self._give_back, block).atexit = False
        return lease

    def _taken(self, size: int) -> mmap.mmap | None:
        """The smallest idle block that is large enough, and by no more than a quarter too large."""
        with self.lock:
            at = bisect_left(self.idle, (size, 0))
            if at == len(self.idle) or self.idle[at][0] > max(size * 5 // 4, size + PAGE):
                return None
            found, number = self.idle.pop(at)
            if found < size:  # a tensor was freed since, by a collection of garbage, and moved the places
                insort(self.idle, (found, number))
                return None
            self.bytes -= found
            return self.blocks.pop(number)

    def _give_back(self, block: mmap.mmap) -> None:
        with self.lock:
            self.number += 1
            self.blocks[self.number] = block
            insort(self.idle, (len(block), self.number))
            self.bytes += len(block)
            while self.bytes > KEPT:
                self._let_go(next(iter(self.blocks)))

    def _let_go(self, number: int) -> None:
        size = len(self.blocks.pop(number))
        self.idle.remove((size, number))
        self.bytes -= size

    def empty(self) -> None:
        with self.lock:
            for number in list(self.blocks):
                self._let_go(number)


_pool = _Pool()


def empty_like(x: Tensor) -> Tensor:
    """Memory for as many numbers, in the same layout; `x` has no gaps."""
    size = x.numel() * x.element_size()
    if size < LEAST:
        return torch.empty_like(x)
    memory = torch.from_numpy(_pool.lease(size)).untyped_storage()
    return torch.empty(0, dtype=x.dtype).set_(memory, 0, x.shape, x.stride())


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    """Memory for so many numbers."""
    return torch.empty(shape, dtype=dtype)


def empty_cache() -> None:
    """Gives the memory that is kept for the next outputs of norms back to the system.

    Example:
        >>> empty_cache()
    """
    _pool.empty()


def _mapped(size: int) -> mmap.mmap:
    """Fresh memory, in large pages where the system has them."""
    whole = -(-size // PAGE) * PAGE
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, whole)
    block = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared would be with forked processes
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block
