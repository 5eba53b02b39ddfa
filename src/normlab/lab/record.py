"""Files of a run as they are written: append-only lines, and a status that is replaced in one step.

config.toml          every value resolved; the only input to run it again
env.json             versions, commit, machine, threads, hash of the data
status.json          planned, running, done, diverged, failed or interrupted; with the reason
metrics.jsonl        one line an epoch
histograms.jsonl     one line a place and epoch
model.json           parameters, layers, and which norms of the user's network were swapped
weights.safetensors  the weights and buffers at the end
checkpoint.pt        of a run that has not ended: where it goes on
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from normlab import errors
from normlab.lab.config import RunConfig

State = Literal["planned", "running", "done", "diverged", "failed", "interrupted"]
ENDED: tuple[State, ...] = ("done", "diverged")

RECIPE = "recipe.toml"  # in the folder of the comparison
CONFIG, ENV, STATUS = "config.toml", "env.json", "status.json"
METRICS, HISTOGRAMS, WEIGHTS = "metrics.jsonl", "histograms.jsonl", "weights.safetensors"
MODEL, CHECKPOINT = "model.json", "checkpoint.pt"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Status:
    """Where a run stands. The hashes say what variants of one seed must share."""

    state: State
    epoch: int
    epochs: int
    reason: str = ""
    initial_weights: str = ""
    batch_order: str = ""


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees the old text or the new one, never a part."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)


def new_folder(out: Path, stem: str, file: str, content: str) -> Path:
    """Makes `out/DATE-TIME-stem` with one file in it; a number follows if there is one of that name already.

    Raises:
        RecordError: the folder cannot be made.
    """
    name, number = f"{datetime.now():%Y%m%d-%H%M%S}-{stem}", 1
    while True:
        folder = out / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            write_whole(folder / file, content)
        except FileExistsError:
            number += 1
        except OSError as error:
            problem = errors.Problem("the folder cannot be made.", got=str(error), fix="choose another with --out.")
            raise errors.RecordError(errors.message(str(folder), problem)) from None
        else:
            return folder


def write_status(folder: Path, status: Status) -> None:
    write_whole(folder / STATUS, json.dumps(asdict(status), indent=1) + "\n")


def set_aside(folder: Path) -> None:
    """Moves the folder of a run to a name that is free: what an earlier attempt left is never deleted."""
    attempt = 1
    while (aside := folder.with_name(f"{folder.name}.attempt{attempt}")).exists():
        attempt += 1
    folder.rename(aside)


def begin(folder: Path, config: RunConfig, environment: Mapping[str, Any]) -> None:
    """Makes the folder of a run. What an earlier attempt left there is moved aside, never deleted.

    Raises:
        OSError: the disk refuses.
    """
    if folder.exists():
        set_aside(folder)
    folder.mkdir(parents=True)
    write_status(folder, Status("running", 0, config.epochs))
    write_whole(folder / CONFIG, config.to_toml())
    write_whole(folder / ENV, json.dumps(environment, indent=1) + "\n")


def append_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Adds one JSON line a record, in a single write, and hands it to the operating system."""
    text = "".join(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n" for record in records)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
