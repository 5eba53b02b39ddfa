"""Running a run again, and holding the two against each other bit for bit."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab import errors
from normlab.lab.load import Run, load
from normlab.lab.record import ENDED, HISTOGRAMS, WEIGHTS


@dataclass(frozen=True)
class Difference:
    """One recorded number that came out differently."""

    epoch: int
    place: str
    before: float | None
    after: float | None

    @property
    def size(self) -> float:
        """How far apart the two are; infinite if only one of them is a finite number."""
        return math.inf if self.before is None or self.after is None else abs(self.after - self.before)


@dataclass(frozen=True)
class Reproduction:
    """What came of running again."""

    epochs: int
    first: Difference | None
    largest: Difference | None
    same_histograms: bool
    same_weights: bool
    environment: dict[str, tuple[Any, Any]]  # what differs between the two machines: before, now

    @property
    def identical(self) -> bool:
        """Whether every number, every count and every weight is the same bit for bit."""
        return self.first is None and self.same_histograms and self.same_weights

    def text(self) -> str:
        """One sentence, and one for the environment if that differs."""
        if self.identical:
            said = f"Bit-identical: every number of {self.epochs} epochs, every histogram and the weights."
        elif self.first is None or self.largest is None:
            what = "histograms" if not self.same_histograms else "weights"
            said = f"Every number of {self.epochs} epochs is the same, and the {what} differ."
        else:
            said = (
                f"Not identical: the first difference is in epoch {self.first.epoch} ({self.first.place}), the largest "
                f"is {self.largest.size:.3g}, in epoch {self.largest.epoch} ({self.largest.place})."
            )
        if self.environment:
            changes = ", ".join(f"{key} {before} → {now}" for key, (before, now) in self.environment.items())
            said += f" The environment differs: {changes}."
        return said


def reproduce(folder: Path | str) -> Reproduction:
    """Runs a run again from its `config.toml`, in a folder that is deleted afterwards, and compares.

    Args:
        folder: of a run that has ended.

    Raises:
        RecordError: the folder is not a run, is damaged, or has not ended.
    """
    from normlab.lab.train import run as train  # torch is slow to load

    before = load(folder).runs
    if len(before) != 1 or before[0].status.state not in ENDED:
        problem = errors.Problem("only one run that has ended can be reproduced.", fix="give the folder of one run.")
        raise errors.RecordError(errors.message(str(folder), problem))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "run"
        train(before[0].config, place, lambda status, metric: None)
        return compare_runs(before[0], load(place).runs[0])


def compare_runs(before: Run, after: Run) -> Reproduction:
    """Every recorded number of two runs, times aside."""
    found = list(_differences(before, after))
    environments = before.environment, after.environment
    return Reproduction(
        len(before.metrics) - 1,
        found[0] if found else None,
        max(found, key=lambda difference: difference.size) if found else None,
        (before.folder / HISTOGRAMS).read_bytes() == (after.folder / HISTOGRAMS).read_bytes(),
        (before.folder / WEIGHTS).read_bytes() == (after.folder / WEIGHTS).read_bytes(),
        {
            key: (environments[0].get(key), environments[1].get(key))
            for key in environments[0] | environments[1]
            if environments[0].get(key) != environments[1].get(key)
        },
    )


def _differences(before: Run, after: Run) -> Iterator[Difference]:
    for epoch in range(max(len(before.metrics), len(after.metrics))):
        a, b = (dict(_numbers(run.metrics[epoch])) if epoch < len(run.metrics) else {} for run in (before, after))
        for place in a | b:
            if a.get(place) != b.get(place) or (place in a) != (place in b):
                yield Difference(epoch, place, a.get(place), b.get(place))


def _numbers(record: Any, place: str = "") -> Iterator[tuple[str, float | None]]:
    """Every number of a record with its dotted place; times and names are left out."""
    if isinstance(record, dict):
        for key, value in record.items():
            if key != "seconds":
                yield from _numbers(value, f"{place}.{key}" if place else key)
    elif isinstance(record, list):
        for index, value in enumerate(record):
            name = ".".join(value[key] for key in ("layer", "site", "mode")) if isinstance(value, dict) else str(index)
            yield from _numbers(value, f"{place}.{name}")
    elif record is None or isinstance(record, (int, float)):
        yield place, record
