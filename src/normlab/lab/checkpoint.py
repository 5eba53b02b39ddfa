"""Where a run can go on after an interruption, so that it ends as if there had been none."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from normlab.lab.config import RunConfig
from normlab.lab.read import read_object
from normlab.lab.record import CHECKPOINT, ENV, HISTOGRAMS, METRICS, write_whole

LINES = (METRICS, HISTOGRAMS)


@dataclass(frozen=True)
class Checkpoint:
    """The end of an epoch."""

    epoch: int
    steps: int
    order: str
    initial_weights: str
    trainer: dict[str, Any]


def save_checkpoint(folder: Path, config: RunConfig, checkpoint: Checkpoint) -> None:
    """Writes it in one step, with the lengths that the files of lines have at this moment."""
    whole = {
        "config": config.to_toml(),
        "lengths": {name: (folder / name).stat().st_size for name in LINES},
        **vars(checkpoint),
    }
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    write_whole(folder / CHECKPOINT, buffer.getvalue())


def resumed(folder: Path, config: RunConfig, environment: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint of an interrupted run in this folder, its files cut back to that moment.

    None if there is none, if it cannot be read, or if the run was another one: other settings, versions, machine or
    data would not end in the same bits. The run then begins anew.
    """
    try:
        whole = torch.load(folder / CHECKPOINT, weights_only=True)
        same = whole["config"] == config.to_toml() and read_object(folder / ENV) == environment
        lengths = whole["lengths"]
        if not same or any((folder / name).stat().st_size < lengths[name] for name in LINES):
            return None
        found = Checkpoint(whole["epoch"], whole["steps"], whole["order"], whole["initial_weights"], whole["trainer"])
    except Exception:  # whatever a damaged file makes of itself; beginning anew is always right
        return None
    for name in LINES:
        with (folder / name).open("r+b") as file:
            file.truncate(lengths[name])
    return found
