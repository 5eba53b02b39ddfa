"""On what a figure was taken, and where it is kept."""

import json
import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
# each can put another allocator, or other thresholds, in the place of the default one
ALLOCATOR = ("LD_PRELOAD", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
BUSY = 0.05  # share of the cores that others have, from which on figures are partly theirs
# before anything else: our own tests raise it
LOAD = os.getloadavg()[0]
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def keep(name: str, figures: dict[str, Any]) -> None:
    """Appends one line to `results/NAME.jsonl`."""
    line = {
        "when": now(),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "normlab": metadata.version("normlab"),
    }
    write(RESULTS / f"{name}.jsonl", line | figures)


def write(path: Path, line: dict[str, Any]) -> None:
    """Appends one line of JSON."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def where() -> dict[str, Any]:
    """The machine, the versions, the threads, what else runs, and which allocator serves the memory."""
    import torch  # what only looks at results needs none

    return {
        "machine": _model() or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "threads": torch.get_num_threads(),
        "load_average": round(LOAD, 2),
        "system": platform.platform(),
        "allocator": {name: os.environ[name] for name in ALLOCATOR if name in os.environ} or "default",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numba", "normlab")},
        "commit": _commit(),
    }


def worked() -> tuple[float, float]:
    """Seconds that the cores worked since the machine began, for whomever, and those of this process and its children.

    Time that a hypervisor gave to others counts as worked.
    """
    try:
        user, nice, system, _, _, irq, soft, stolen, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    except (OSError, ValueError):
        return math.nan, math.nan
    own = os.times()
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + soft + stolen) / ticks, sum(own[:4])


def others(since: tuple[float, float], seconds: float) -> float | None:
    """The share of the cores that somebody else had since then: above some per cent the figures are theirs too."""
    all_of_it, own = (now - then for now, then in zip(worked(), since, strict=True))
    share = (all_of_it - own) / (seconds * (os.cpu_count() or 1))
    return None if math.isnan(share) else max(0.0, round(share, 3))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the library; what else is changed, these results for instance, changes no figure."""
    head, changes = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "--", "src")
    return f"{head} with uncommitted changes" if head and changes else head


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(ROOT), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _caches() -> dict[str, str]:
    """Sizes as the first core sees them, by level: L1 (of data), L2, L3."""
    found = {}
    for cache in sorted(CACHES.glob("index*")):
        level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found
