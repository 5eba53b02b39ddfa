"""The only place where kernels get memory for what they return.

A large tensor comes fresh from the system, which clears it page by page: that costs more than all that is computed
in it. Batch norm of (32, 64, 112, 112), 103 MB, takes 32 ms that way, 12 ms in pages of 2 MB, and 6 ms into memory
that was in use before. So what is freed here is kept for the next tensor of about that size, as PyTorch does on a GPU.
"""

import ctypes
import mmap
import threading
from collections import OrderedDict
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Bytes. Below, what the C library hands out was mostly in use before: at 1 MB a lease, 4 µs, is a twentieth of the
# kernel.
LEAST = 1 << 20
# Bytes of idle memory that are kept; the oldest goes first.
KEPT = 4 << 30
PAGE = 2 << 20


class _Block(NamedTuple):
    """Memory of our own, of so many pages."""

    memory: mmap.mmap
    address: int
    pages: int


class _Pool:
    """Blocks of memory that nothing uses, by size; of those of one size the one that was used last goes first."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a collection of garbage may free a tensor while one is made
        self.idle: OrderedDict[int, list[_Block]] = OrderedDict()  # by pages, in the order in which they became idle
        self.bytes = 0

    def lease(self, size: int) -> Any:
        """At least so many bytes, which come back when what is returned is freed."""
        pages = -(-size // PAGE)
        step = 1 << max(pages.bit_length() - 4, 0)  # sizes that differ by less than an eighth share their blocks
        pages = -(-pages // step) * step
        with self.lock:
            some = self.idle.get(pages)
            block = some.pop() if some else None
            if block is not None:
                self.bytes -= pages * PAGE
        if block is None:
            block = _mapped(pages)
        lease = _leases(pages).from_address(block.address)
        lease.block, lease.pool = block, self
        return lease

    def give_back(self, block: _Block) -> None:
        with self.lock:
            self.idle.setdefault(block.pages, []).append(block)
            self.idle.move_to_end(block.pages)
            self.bytes += block.pages * PAGE
            while self.bytes > KEPT:
                self._let_go()

    def _let_go(self) -> None:
        pages, blocks = next(iter(self.idle.items()))
        if blocks:
            self.bytes -= blocks.pop(0).pages * PAGE
        if not blocks:
            del self.idle[pages]

    def empty(self) -> None:
        with self.lock:
            while self.idle:
                self._let_go()


_pool = _Pool()


@cache
def _leases(pages: int) -> Any:
    """The type of what is lent: memory that Python can hand to PyTorch, and a word when PyTorch needs it no more."""

    def ended(lease: Any) -> None:
        lease.pool.give_back(lease.block)

    return type("Lease", (ctypes.c_char * (pages * PAGE),), {"__slots__": ("block", "pool"), "__del__": ended})


def empty_like(x: Tensor) -> Tensor:
    """Memory for as many numbers, in the same layout; `x` has no gaps."""
    count = x.numel()
    size = count * x.element_size()
    if size < LEAST:
        return torch.empty_like(x)
    y = torch.frombuffer(_pool.lease(size), dtype=x.dtype, count=count)
    return y.set_(y.untyped_storage(), 0, x.shape, x.stride())


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    """Memory for so many numbers."""
    return torch.empty(shape, dtype=dtype)


def empty_cache() -> None:
    """Gives the memory that is kept for the next outputs of norms back to the system.

    Example:
        >>> empty_cache()
    """
    _pool.empty()


def _mapped(pages: int) -> _Block:
    """Fresh memory, in large pages where the system has them."""
    size = pages * PAGE
    if hasattr(mmap, "MAP_PRIVATE"):
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # shared would be with forked ones
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
    else:
        memory = mmap.mmap(-1, size)
    return _Block(memory, ctypes.addressof(ctypes.c_char.from_buffer(memory)), pages)
