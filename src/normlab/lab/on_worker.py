"""What a worker is told, and what it does: a run in a child of its own."""

import functools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import get_worker

from normlab import errors
from normlab.lab.children import Origin, has_ended, origin, run_apart
from normlab.lab.config import RunConfig
from normlab.lab.read import read_status
from normlab.lab.record import STATUS, Status

TOKEN = "workers.token"  # noqa: S105 - in the folder while a cluster works on it: who reads it shares the file system
SEE_SECONDS = 5.0  # that a network file system is given to show it
ORPHAN_SECONDS = 1.0  # that a child is given to notice that its worker has died


class WrongWorker(errors.NormlabError):
    """A worker that cannot do our runs; the text says why."""


@functools.cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("normlab", "torch")}


@dataclass(frozen=True)
class Order:
    """What a worker must know besides the run. It goes there as words and numbers: see `sent`."""

    folder: str
    timeout: float | None
    planned_at: Origin = field(default_factory=origin)
    token: str = ""
    topic: str = field(default_factory=lambda: f"normlab-{uuid4().hex}")
    versions: dict[str, str] = field(default_factory=_versions)

    def go_on(self) -> str:
        """The command that goes on with the comparison."""
        return f"normlab compare --resume {self.folder} --scheduler ADDRESS"


def sent() -> Callable[[str, str, dict[str, Any]], None]:
    """What is sent to a worker: code that names nothing of normlab. A worker that cannot unpack what it gets dies."""

    def normlab_run(config: str, name: str, order: dict[str, Any]) -> None:
        from normlab.lab.on_worker import work_as_told

        work_as_told(config, name, order)

    return normlab_run


def work_as_told(config: str, name: str, told: dict[str, Any]) -> None:
    """One run, on a worker."""
    worker = get_worker()
    order = Order(**told | {"planned_at": Origin(**told["planned_at"])})
    if order.token:
        _check_worker(worker.address, order)
    place = Path(order.folder, name)
    if has_ended(place):
        return  # its worker died between the end of the run and the news of it
    task = worker.state.tasks[worker.get_current_task()]

    def is_wanted() -> bool:
        return task.state == "executing" and worker.status.name not in ("closing", "closed", "failed")

    def report(status: Status, metric: float | None) -> None:
        worker.log_event(order.topic, {"run": name, "status": asdict(status), "metric": metric})

    worker.log_event(order.topic, {"run": name, "under_way": True})
    try:
        if (place / STATUS).exists() and read_status(place).state == "running":
            time.sleep(ORPHAN_SECONDS)
        run_apart(RunConfig.from_toml(config), place, report, order.timeout, is_wanted, order.planned_at)
    finally:
        worker.log_event(order.topic, {"run": name, "under_way": False})


def _check_worker(address: str, order: Order) -> None:
    if _versions() != order.versions:
        problem = errors.Problem(
            "the workers must have our versions.",
            got=f"{address} has {words(_versions())}; here {words(order.versions)}",
            fix=f"install the same on every worker, then: {order.go_on()}",
        )
        raise WrongWorker(errors.message("--scheduler", problem))
    token = Path(order.folder, TOKEN)
    # a network file system may show a new file a little later
    if not wait_until(lambda: token.exists() and token.read_text() == order.token, SEE_SECONDS):
        problem = errors.Problem(
            "the workers must share the file system of the comparison.",
            got=f"{address} does not see {token}",
            fix="choose a folder that they see with --out.",
        )
        raise WrongWorker(errors.message("--scheduler", problem))


def words(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
