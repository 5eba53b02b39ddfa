"""Reading records back: the public way from a folder to numbers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from normlab import errors
from normlab.lab import config
from normlab.lab.config import RunConfig
from normlab.lab.grid import BINS, Histogram
from normlab.lab.metric import Metric, metric_of
from normlab.lab.read import damaged, read_config, read_lines, read_object, read_status
from normlab.lab.recipe import Recipe, planned_runs, variant_name
from normlab.lab.record import CONFIG, ENDED, ENV, HISTOGRAMS, METRICS, MODEL, RECIPE, STATUS, Status
from normlab.lab.schema import HISTOGRAM_LINE, METRICS_LINE


@dataclass(frozen=True)
class Place:
    """Where and when a histogram was taken."""

    epoch: int
    layer: str
    site: str
    mode: str


@dataclass(frozen=True)
class Run:
    """The records of one run; metrics and histograms are read when first asked for."""

    folder: Path
    variant: str
    config: RunConfig
    status: Status

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, machine, threads, hash of the data."""
        return read_object(self.folder / ENV)

    @cached_property
    def model(self) -> dict[str, Any]:
        """Its parameters and layers, and which norms of the user's network were swapped; empty of older records."""
        path = self.folder / MODEL
        return read_object(path) if path.exists() else {}

    @cached_property
    def metrics(self) -> tuple[dict[str, Any], ...]:
        """The lines of `metrics.jsonl`, one an epoch, epoch 0 first; what stands for both modes is given for each."""
        path, status = self.folder / METRICS, self.status
        lines = read_lines(path, METRICS_LINE, status.state in ENDED)
        if status.state in ENDED and len(lines) != status.epoch + 1:
            raise damaged(path, f"{len(lines)} lines, and the run recorded {status.epoch + 1}")
        for number, line in enumerate(lines):
            if line["epoch"] != number:
                raise damaged(path, f"line {number + 1}: epoch {line['epoch']} where {number} was to be")
        return tuple(
            line | {"sites": [site | {"mode": mode} for site in line["sites"] for mode in _modes(site)]}
            for line in lines
        )

    @cached_property
    def histograms(self) -> dict[Place, Histogram]:
        """The lines of `histograms.jsonl`; what stands for both modes is given for each."""
        path, found = self.folder / HISTOGRAMS, {}
        for line in read_lines(path, HISTOGRAM_LINE, self.status.state in ENDED):
            histogram = _histogram(line)
            for mode in _modes(line):
                found[Place(line["epoch"], line["layer"], line["site"], mode)] = histogram
        wanted = {
            Place(line["epoch"], site["layer"], site["site"], site["mode"])
            for line in self.metrics
            for site in line["sites"]
        }
        if self.status.state in ENDED and found.keys() != wanted:
            place = min(found.keys() ^ wanted, key=lambda each: each.epoch)
            which = "is missing" if place in wanted else "is too many"
            raise damaged(path, f"the line of epoch {place.epoch}, {place.layer} {place.site} {place.mode} {which}")
        return found

    @property
    def value(self) -> float | None:
        """The metric on the test set in eval mode at the end; None if the run has not ended well."""
        if self.status.state != "done":
            return None
        value: float | None = self.metrics[-1]["metric"]["test"]["eval"]
        return value


@dataclass(frozen=True)
class Results:
    """A comparison read back: its recipe and every planned run, finished or not."""

    folder: Path
    recipe: Recipe
    runs: tuple[Run, ...]

    @property
    def metric(self) -> Metric:
        """What the comparison is judged by."""
        return metric_of(self.recipe.base)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, in the order of the recipe."""
        return tuple(dict.fromkeys(run.variant for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed, in order."""
        return tuple(sorted({run.config.seed for run in self.runs}))

    def of(self, variant: str) -> tuple[Run, ...]:
        """The runs of one variant, by seed."""
        return tuple(run for run in self.runs if run.variant == variant)

    def settings(self, variant: str) -> dict[str, Any]:
        """The settings in which this variant differs."""
        return {key: config.setting(self.of(variant)[0].config, key) for key in self.recipe.axes}


def load(folder: Path | str) -> Results:
    """Reads a comparison, or a single run as a comparison of one.

    Raises:
        RecordError: a file is missing or damaged; the text names the file and the line.
    """
    folder = Path(folder)
    if (folder / CONFIG).exists() and not (folder / RECIPE).exists():
        return gather([folder])
    recipe = read_config(folder / RECIPE, Recipe)
    runs = []
    for planned in planned_runs(recipe):
        place = folder / planned.folder
        # a folder in which nothing was recorded was made when the disk was full, or just before a kill
        begun = (place / STATUS).exists() or (place / METRICS).exists()
        status = read_status(place) if begun else Status("planned", 0, planned.config.epochs)
        runs.append(Run(place, planned.variant, planned.config, status))
    return Results(folder, recipe, tuple(runs))


def gather(folders: list[Path]) -> Results:
    """Puts single runs side by side as one comparison: the variants are what their settings differ in.

    Raises:
        RecordError: a folder is not a run, or the runs cannot be compared.
    """
    loaded = [(folder, read_config(folder / CONFIG, RunConfig), read_status(folder)) for folder in folders]
    configs = [each for _, each, _ in loaded]
    first = configs[0]
    differing = [
        key
        for key in config.keys(RunConfig)
        if key != "seed" and len({str(config.setting(each, key)) for each in configs}) > 1
    ]
    if "data" in differing:
        problem = errors.Problem("runs on different data cannot be compared.", fix="choose runs of one data set.")
        raise errors.RecordError(errors.message("report", problem))
    if len(set(configs)) < len(configs):
        problem = errors.Problem("two of these runs have the same settings and seed.", fix="give each of them once.")
        raise errors.RecordError(errors.message("report", problem))
    axes = {key: tuple(dict.fromkeys(config.setting(each, key) for each in configs)) for key in differing or ["norm"]}
    recipe = Recipe(
        name="runs",
        question="How do these runs differ?",
        source="runs chosen by hand",
        seeds=len({each.seed for each in configs}),
        base=first,
        axes=axes,
    )
    runs = []
    for folder, each, status in loaded:
        name = variant_name({key: config.setting(each, key) for key in axes}, each)
        runs.append(Run(folder, name, each, status))
    return Results(folders[0].parent, recipe, tuple(runs))


def _modes(record: dict[str, Any]) -> tuple[str, ...]:
    return ("train", "eval") if record["mode"] == "both" else (record["mode"],)


def _histogram(line: dict[str, Any]) -> Histogram:
    counts = np.zeros(BINS, dtype=np.int64)
    counts[line["first"] : line["first"] + len(line["counts"])] = line["counts"]
    return Histogram(counts, line["below"], line["above"], line["nonfinite"])
