"""Runs a kernel on the threads of PyTorch itself: the same pool, so that no two pools fight for the cores."""

import ctypes
import struct
import threading
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch


class OpenMP(NamedTuple):
    """The functions of the OpenMP that PyTorch runs on; `parallel` is None where it has none."""

    parallel: ctypes._CFuncPtr | None  # type: ignore[name-defined]
    thread: int
    threads: int


@cache
def openmp() -> OpenMP:
    """Found among the libraries that PyTorch loaded. Without it kernels run on one thread."""
    try:
        library = ctypes.CDLL(str(next((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))))
        parallel = library.GOMP_parallel
        thread, threads = (
            ctypes.cast(function, ctypes.c_void_p).value or 0
            for function in (library.omp_get_thread_num, library.omp_get_num_threads)
        )
    except (OSError, AttributeError, StopIteration):
        return OpenMP(None, 0, 0)
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    return OpenMP(parallel, thread, threads)


def size() -> int:
    """How many threads a kernel is given: as many as PyTorch uses."""
    return 1 if openmp().parallel is None else torch.get_num_threads()


def run(kernel: int, threads: int, *given: int) -> None:
    """Calls a kernel on each thread of a team and waits for all.

    Args:
        kernel: address of its machine code (`compiled.address`).
        threads: of the team. A kernel asks for its number and the size of the team, as OpenMP may give fewer.
        given: integers and addresses, which the kernel finds from the third place on.
    """
    team = openmp()
    parallel = None if threads == 1 else team.parallel
    asked = (0, 0) if parallel is None else (team.thread, team.threads)
    numbers = (ctypes.c_int64 * (len(given) + 2))(*asked, *given)
    if parallel is None:
        _function(kernel)(numbers)
    else:
        parallel(kernel, numbers, threads, 0)


class _Scratch(threading.local):
    """Memory to work in, of each thread of Python."""

    memory: Any = None
    address, size = 0, 0


_scratch = _Scratch()


def scratch(size: int) -> int:
    """The address of so many bytes, full lines, to work in: until the next kernel of this thread."""
    mine = _scratch
    if size > mine.size:
        mine.memory = torch.empty(size, dtype=torch.uint8, device="cpu")
        mine.address, mine.size = mine.memory.data_ptr(), size
    return mine.address


def alone(kernel: int, *given: int) -> int:
    """Calls a kernel on this thread; what it wrote into the first place, where `given` begins at the second."""
    numbers = (ctypes.c_int64 * (len(given) + 1))(0, *given)
    _function(kernel)(numbers)
    return numbers[0]


@cache
def _function(kernel: int) -> ctypes._CFuncPtr:  # type: ignore[name-defined]
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel)


@lru_cache(1024)
def bits(value: float) -> int:
    """A float64 as the integer of the same bits."""
    found: int = struct.unpack("q", struct.pack("d", value))[0]
    return found
