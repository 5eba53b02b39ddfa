"""A run made again is the same bit for bit, and what is not the same is named."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from normlab.cli.app import app
from normlab.errors import RecordError
from normlab.lab import Results
from normlab.lab.load import load
from normlab.lab.record import Status, write_status
from normlab.lab.reproduce import compare_runs, reproduce


@pytest.fixture
def copied(finished: Results, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.of("batch")[0].folder, tmp_path / "run"))


def test_a_run_is_reproduced_bit_for_bit(copied: Path) -> None:
    found = reproduce(copied)
    assert found.identical
    assert found.text() == "Bit-identical: every number of 2 epochs, every histogram and the weights."


def test_what_differs_is_named_by_epoch_and_place(copied: Path, finished: Results) -> None:
    lines = (copied / "metrics.jsonl").read_text().splitlines()
    for epoch, by in ((1, 0.25), (2, 0.5)):
        record = json.loads(lines[epoch])
        record["loss"]["test"]["eval"] += by
        record["seconds"]["train"] += 99
        lines[epoch] = json.dumps(record)
    (copied / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    environment = json.loads((copied / "env.json").read_text())
    (copied / "env.json").write_text(json.dumps(environment | {"threads": 2}))
    found = compare_runs(load(copied).runs[0], finished.of("batch")[0])
    assert not found.identical
    assert found.text() == (
        "Not identical: the first difference is in epoch 1 (loss.test.eval), the largest is 0.5, "
        "in epoch 2 (loss.test.eval). The environment differs: threads 2 → 1."
    )


def test_a_number_that_is_missing_on_one_side_is_a_difference(copied: Path, finished: Results) -> None:
    lines = (copied / "metrics.jsonl").read_text().splitlines()
    record = json.loads(lines[2])
    record["sites"][0]["mean"] = None
    (copied / "metrics.jsonl").write_text("\n".join([*lines[:2], json.dumps(record)]) + "\n")
    found = compare_runs(load(copied).runs[0], finished.of("batch")[0])
    assert found.first is not None
    assert (found.first.epoch, found.first.place) == (2, "sites.1.pre_norm.train.mean")
    assert found.first.size == float("inf")


@pytest.mark.parametrize("name", ["histograms.jsonl", "weights.safetensors"])
def test_other_files_count_too(name: str, copied: Path, finished: Results) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:-1] + b" ")
    found = compare_runs(load(copied).runs[0], finished.of("batch")[0])
    assert found.text() == f"Every number of 2 epochs is the same, and the {name.partition('.')[0]} differ."


def test_a_run_that_has_not_ended_is_refused(copied: Path) -> None:
    write_status(copied, Status("interrupted", 1, 2))
    with pytest.raises(RecordError) as raised:
        reproduce(copied)
    assert str(raised.value) == (
        f"{copied}: only one run that has ended can be reproduced.\n  fix: give the folder of one run."
    )


def test_the_command_says_it_and_its_exit_code_does(copied: Path) -> None:
    good = CliRunner().invoke(app, ["reproduce", str(copied), "--json"])
    assert (good.exit_code, json.loads(good.stdout)["identical"]) == (0, True)
    (copied / "weights.safetensors").write_bytes(b"")
    bad = CliRunner().invoke(app, ["reproduce", str(copied)])
    assert (bad.exit_code, "the weights differ" in bad.stdout) == (1, True)
