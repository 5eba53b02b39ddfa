"""Reading records back: the public way from a folder to numbers."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from normlab import errors
from normlab.lab import config
from normlab.lab.config import Frozen, RunConfig
from normlab.lab.grid import BINS, Histogram
from normlab.lab.metric import METRICS as METRIC_OF
from normlab.lab.metric import Metric
from normlab.lab.recipe import Recipe, planned_runs, variant_name
from normlab.lab.record import CONFIG, ENDED, ENV, HISTOGRAMS, METRICS, RECIPE, STATUS, Status

Config = TypeVar("Config", bound=Frozen)


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
        found: dict[str, Any] = _json(self.folder / ENV)
        return found

    @cached_property
    def metrics(self) -> tuple[dict[str, Any], ...]:
        """The lines of `metrics.jsonl`, one an epoch, epoch 0 first; what stands for both modes is given for each."""
        lines = _lines(self.folder / METRICS, whole=self.status.state in ENDED)
        return tuple(
            line | {"sites": [site | {"mode": mode} for site in line["sites"] for mode in _modes(site)]}
            for line in lines
        )

    @cached_property
    def histograms(self) -> dict[Place, Histogram]:
        """The lines of `histograms.jsonl`; what stands for both modes is given for each."""
        found = {}
        for line in _lines(self.folder / HISTOGRAMS, whole=self.status.state in ENDED):
            histogram = _histogram(line)
            for mode in _modes(line):
                found[Place(line["epoch"], line["layer"], line["site"], mode)] = histogram
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
        return METRIC_OF[self.recipe.base.data]

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, in the order of the recipe."""
        return tuple(dict.fromkeys(run.variant for run in self.runs))

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
    recipe = _config(folder / RECIPE, Recipe)
    runs = []
    for planned in planned_runs(recipe):
        place = folder / planned.folder
        status = read_status(place) if place.exists() else Status("planned", 0, planned.config.epochs)
        runs.append(Run(place, planned.variant, planned.config, status))
    return Results(folder, recipe, tuple(runs))


def gather(folders: list[Path]) -> Results:
    """Puts single runs side by side as one comparison: the variants are what their settings differ in.

    Raises:
        RecordError: a folder is not a run, or the runs cannot be compared.
    """
    loaded = [(folder, _config(folder / CONFIG, RunConfig), read_status(folder)) for folder in folders]
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


def _config(path: Path, kind: type[Config]) -> Config:
    try:
        return kind.from_toml(_text(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from None
    except ValidationError as error:
        raise errors.RecordError(errors.message(str(path), *config.validation_problems(error))) from None


def read_status(folder: Path) -> Status:
    """Where the run in this folder stands."""
    try:
        return Status(**_json(folder / STATUS))
    except TypeError as error:
        raise _damaged(folder / STATUS, str(error)) from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _lines(path: Path, whole: bool) -> Iterator[dict[str, Any]]:
    """The records of a file of lines; a last line without an end is left out if the run was not finished."""
    lines = _text(path).split("\n")
    if not whole or lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise _damaged(path, f"line {number}: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problem = errors.Problem(f"{path.name} is missing.", fix="give a folder that `normlab compare` wrote.")
        raise errors.RecordError(errors.message(str(path.parent), problem)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, what: str) -> errors.RecordError:
    problem = errors.Problem(
        "the file is damaged.",
        got=what,
        fix="restore it, or run again: `normlab compare --resume` keeps the other runs.",
    )
    return errors.RecordError(errors.message(str(path), problem))
