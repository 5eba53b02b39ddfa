"""How much memory a call takes: what PyTorch's allocator gives out, and what the process as a whole holds at most."""

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from normlab.kernels import alloc

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler says on stderr that it starts

from torch.profiler import ProfilerActivity, profile

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """Bytes beyond those before the call: when it returned, its result included, and at most."""

    kept: int
    peak: int


def allocated(call: Callable[[], object]) -> Memory:
    """What PyTorch's allocator gave out and took back, one after another, as its profiler notes it.

    It counts whatever the tensors of the call stand on, saved for backward or not, by hooks or not; and not what a
    library behind PyTorch asks the system for itself. Our kernels get their memory from PyTorch for that call, and not
    from what they keep, which the profiler does not see.
    """
    with (
        mock.patch.object(alloc, "LEAST", sys.maxsize),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as noted,
    ):
        result = call()
    events = [event for event in noted.profiler.kineto_results.events() if event.name() == "[memory]"]
    del result
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return Memory(now, peak)


def give_back() -> None:
    """Gives the system what was freed but kept for later: by us, and by the C library."""
    gc.collect()
    alloc.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def forget_high_water() -> bool:
    """Lets the high-water mark begin anew from what the process holds now; False where the system cannot."""
    try:
        FORGET.write_text("5")
    except OSError:
        return False
    return True


def high_water() -> int:
    """The most bytes that the process held in memory."""
    return _of_status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """The bytes that the process holds in memory now."""
    return _of_status("VmRSS")


def _of_status(name: str) -> int:
    if not STATUS.exists():
        return 0
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
