"""On what a run was made: enough to know whether another one can be bit-equal."""

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from normlab.lab.config import RunConfig
from normlab.lab.data.forms import is_own
from normlab.lab.own import file_hash

PACKAGES = ("torch", "numpy", "scikit-learn", "safetensors")


def environment(config: RunConfig, data_hash: str) -> dict[str, Any]:
    """Versions, commit of normlab (if it runs from a checkout), machine, device, threads, data, files of the user's."""
    own = (config.data, config.model.factory, config.loss, config.metric)
    return {
        "normlab": metadata.version("normlab"),
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": "cpu",
        "threads": config.threads,
        "deterministic_algorithms": True,
        "data": config.data,
        "data_sha256": data_hash,
        "own_files_sha256": {name: file_hash(name) for name in own if name and is_own(name)},
    }


@functools.cache
def _commit() -> str | None:
    here = Path(__file__)
    try:
        if _git("ls-files", "--error-unmatch", here.name) is None:
            return None  # inside somebody else's checkout, for instance a virtual environment in a repository
        head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    except OSError:
        return None
    return f"{head} with uncommitted changes" if changes else head


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
