"""A run that is interrupted and goes on ends in the bits of one that was not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from normlab.lab import Recipe, load, planned_runs
from normlab.lab.config import RunConfig
from normlab.lab.record import Status
from normlab.lab.train import run

WORDS = {
    "dropout, adam, batch norm": ("norm=batch", "model.dropout=0.3", "optimizer.name=adam", "optimizer.momentum=0"),
    "momentum, decay, group norm": ("norm=group", "norm_groups=4", "optimizer.lr_decay=0.5"),
    "rmsprop, statistics pooled": (
        "norm=batch", "norm_momentum=pooled", "optimizer.name=rmsprop", "optimizer.momentum=0", "optimizer.lr=0.01"
    ),
}  # fmt: skip


class InterruptedEarlyError(Exception):
    pass


def stopping_after(epoch: int) -> Callable[[Status, float | None], None]:
    def on_epoch(status: Status, metric: float | None) -> None:
        if status.epoch == epoch:
            raise InterruptedEarlyError

    return on_epoch


def ignore(status: Status, metric: float | None) -> None:
    pass


def config_of(small: Callable[..., Recipe], *words: str) -> RunConfig:
    return planned_runs(small("epochs=5", *words))[0].config


def bits(folder: Path) -> dict[str, Any]:
    """Everything recorded, less the times."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    found["metrics.jsonl"] = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return found


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_run_ends_like_any_other(
    words: tuple[str, ...], stop: int, small: Callable[..., Recipe], tmp_path: Path
) -> None:
    config = config_of(small, *words)
    run(config, tmp_path / "whole", ignore)
    torch.manual_seed(stop)  # of no influence
    with pytest.raises(InterruptedEarlyError):
        run(config, tmp_path / "cut", stopping_after(stop), checkpoint_seconds=-1)
    # what was recorded after the checkpoint is cut off: this line is of no run
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"half a line')
    epochs: list[int] = []
    run(config, tmp_path / "cut", lambda status, _: epochs.append(status.epoch))
    assert epochs == list(range(stop + 1, 6))
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir() if "attempt" in path.name] == []


def test_the_checkpoint_is_plain_data_and_goes_when_the_run_ends(small: Callable[..., Recipe], tmp_path: Path) -> None:
    config = config_of(small, "norm=batch")
    with pytest.raises(InterruptedEarlyError):
        run(config, tmp_path / "run", stopping_after(2), checkpoint_seconds=-1)
    found = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert (found["epoch"], found["steps"]) == (2, 46)
    run(config, tmp_path / "run", ignore)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert load(tmp_path / "run").runs[0].status.state == "done"


def damaged(folder: Path) -> None:
    (folder / "checkpoint.pt").write_bytes((folder / "checkpoint.pt").read_bytes()[:-100])


def of_another_machine(folder: Path) -> None:
    environment = json.loads((folder / "env.json").read_text())
    (folder / "env.json").write_text(json.dumps(environment | {"processor": "another"}))


def lines_lost(folder: Path) -> None:
    text = (folder / "histograms.jsonl").read_text()
    (folder / "histograms.jsonl").write_text(text[: len(text) // 2])


@pytest.mark.parametrize("spoil", [damaged, of_another_machine, lines_lost])
def test_what_would_not_end_alike_begins_anew(
    spoil: Callable[[Path], None], small: Callable[..., Recipe], tmp_path: Path
) -> None:
    config = config_of(small, "norm=batch")
    run(config, tmp_path / "whole", ignore)
    with pytest.raises(InterruptedEarlyError):
        run(config, tmp_path / "cut", stopping_after(2), checkpoint_seconds=-1)
    spoil(tmp_path / "cut")
    epochs: list[int] = []
    run(config, tmp_path / "cut", lambda status, _: epochs.append(status.epoch))
    assert epochs == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "cut.attempt1" / "metrics.jsonl").exists()
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")


def test_other_settings_begin_anew(small: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(InterruptedEarlyError):
        run(config_of(small, "norm=batch"), tmp_path / "run", stopping_after(2), checkpoint_seconds=-1)
    epochs: list[int] = []
    run(config_of(small, "norm=layer"), tmp_path / "run", lambda status, _: epochs.append(status.epoch))
    assert epochs == [0, 1, 2, 3, 4, 5]


def test_a_checkpoint_is_written_only_now_and_then(small: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(InterruptedEarlyError):
        run(config_of(small, "norm=batch"), tmp_path / "run", stopping_after(4))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
