"""Damage is named by file and line; what is not damaged is read."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normlab.errors import RecordError
from normlab.lab import Recipe, Results, compare, create, gather, load, summarize
from normlab.lab.record import Status, write_status
from normlab.lab.report.figures import figures

FIX = "\n  fix: restore it, or run again: `normlab compare --resume` keeps the other runs."


def message(read: Callable[[], object]) -> str:
    with pytest.raises(RecordError) as raised:
        read()
    return str(raised.value)


def everything(folder: Path) -> None:
    results = load(folder)
    for run in results.runs:
        _ = run.environment, run.metrics, run.histograms
    summarize(results)


def test_what_was_recorded_is_read_back(finished: Results) -> None:
    again = load(str(finished.folder))
    assert again.recipe == finished.recipe
    assert again.variants == ("none", "batch")
    assert [(run.variant, run.config.seed, run.value) for run in again.runs] == [
        (run.variant, run.config.seed, run.value) for run in finished.runs
    ]
    assert again.settings("batch") == {"norm": "batch"}
    assert [run.config.seed for run in again.of("batch")] == [0, 1]
    assert all(run.status.state == "done" and run.status.epoch == 2 for run in again.runs)


def test_a_histogram_is_stored_from_its_first_to_its_last_bin(finished: Results) -> None:
    run = finished.of("batch")[0]
    text = (run.folder / "histograms.jsonl").read_text()
    for line, histogram in zip(map(json.loads, text.splitlines()), run.histograms.values(), strict=True):
        counts = histogram.counts
        assert np.array_equal(counts[line["first"] :][: len(line["counts"])], line["counts"])
        assert line["counts"][0] > 0
        assert line["counts"][-1] > 0
        assert counts.sum() == sum(line["counts"])


def test_what_was_measured_once_for_both_modes_is_given_for_each(finished: Results) -> None:
    run = finished.of("none")[0]
    text = (run.folder / "histograms.jsonl").read_text()
    assert {json.loads(line)["mode"] for line in text.splitlines()} == {"both"}
    assert len(run.histograms) == 2 * len(text.splitlines())
    for place, histogram in run.histograms.items():
        assert place.mode in ("train", "eval")
        assert np.array_equal(histogram.counts, run.histograms[replace(place, mode="train")].counts)
    for line in run.metrics:
        modes = {mode: [site | {"mode": ""} for site in line["sites"] if site["mode"] == mode] for mode in MODES}
        assert len(modes["train"]) == 4
        assert modes["train"] == modes["eval"]


MODES = ("train", "eval")
TOML = "Expected '=' after a key in a key/value pair (at line 2, column 6)"
DAMAGED = {  # file, content, what is said
    "recipe": ("recipe.toml", "a = 1\nthis is not toml\n", TOML),
    "config": ("RUN/config.toml", "a = 1\nthis is not toml\n", TOML),
    "status": (
        "RUN/status.json",
        '{"state": "done",\n "epo',
        "Invalid JSON: EOF while parsing a string at line 2 column 5",
    ),
    "status of another version": (
        "RUN/status.json",
        '{"state": "done", "epoch": 2, "epochs": 2, "colour": 1}',
        "colour: Unexpected keyword argument",
    ),
    "environment": ("RUN/env.json", "", "Expecting value: line 1 column 1 (char 0)"),
}


@pytest.mark.parametrize(("name", "content", "what"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(name: str, content: str, what: str, copied: Results) -> None:
    run = copied.runs[0].folder
    path = copied.folder / name.replace("RUN", run.name)
    path.write_text(content)
    folder = run if name.endswith("config.toml") else copied.folder
    assert message(lambda: everything(folder)) == f"{path}: the file is damaged.\n  got: {what}{FIX}"


def test_a_status_that_does_not_exist_is_refused(copied: Results) -> None:
    path = copied.runs[0].folder / "status.json"
    path.write_text('{"state": "finished", "epoch": 2, "epochs": 2}')
    assert message(lambda: everything(copied.folder)).startswith(f"{path}: the file is damaged.\n")


def test_a_setting_of_another_version_is_named(copied: Results) -> None:
    path = copied.runs[0].folder / "config.toml"
    path.write_text(path.read_text().replace("schema_version = 1", "schema_version = 2\ndropout = 0.5"))
    said = message(lambda: load(path.parent)).splitlines()
    assert [line for line in said if not line.startswith(" ")] == [
        f"{path}: `schema_version`: input should be 1.",
        f"{path}: `dropout`: extra inputs are not permitted.",
    ]


@pytest.mark.parametrize("name", ["metrics.jsonl", "histograms.jsonl"])
def test_a_broken_line_in_the_middle_is_named(name: str, copied: Results) -> None:
    path = copied.runs[0].folder / name
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1][:30] + "\n"
    path.write_text("".join(lines))
    said = message(lambda: everything(copied.folder))
    assert said.startswith(f"{path}: the file is damaged.\n  got: line 2: ")
    assert said.endswith(FIX)


@pytest.mark.parametrize("name", ["metrics.jsonl", "histograms.jsonl"])
def test_a_broken_byte_is_named_by_its_line(name: str, copied: Results) -> None:
    path = copied.runs[0].folder / name
    lines = path.read_bytes().split(b"\n")
    lines[1] = b"\xff" + lines[1][1:]
    path.write_bytes(b"\n".join(lines))
    assert message(lambda: everything(copied.folder)).startswith(f"{path}: the file is damaged.\n  got: line 2: ")


@pytest.mark.parametrize("line", ["{}", "3"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "histograms.jsonl"])
def test_a_line_that_is_not_a_record_is_named(name: str, line: str, copied: Results) -> None:
    path = copied.runs[0].folder / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    assert message(lambda: everything(copied.folder)).startswith(f"{path}: the file is damaged.\n  got: line 2: ")


@pytest.mark.parametrize("name", ["metrics.jsonl", "histograms.jsonl"])
def test_a_finished_run_that_lost_its_end_is_damaged(name: str, copied: Results) -> None:
    path = copied.runs[0].folder / name
    text = path.read_text()
    path.write_text(text[:-20])
    said = message(lambda: everything(copied.folder))
    assert said.startswith(f"{path}: the file is damaged.\n  got: line {len(text.splitlines())}: ")


@pytest.mark.parametrize("kept", [0, 2])
def test_a_finished_run_that_lost_whole_lines_is_damaged(kept: int, copied: Results) -> None:
    """Else an earlier epoch would pass for the last one."""
    path = copied.runs[0].folder / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    assert message(lambda: everything(copied.folder)).startswith(f"{path}: the file is damaged.\n")


@pytest.mark.parametrize("name", ["metrics.jsonl", "histograms.jsonl"])
def test_an_unfinished_run_may_end_in_the_middle_of_a_line(name: str, copied: Results) -> None:
    run = copied.of("batch")[0]
    write_status(run.folder, Status("interrupted", 2, 2))
    path = run.folder / name
    whole = len(path.read_text().splitlines())
    path.write_text(path.read_text()[:-20])
    again = load(copied.folder).of("batch")[0]
    assert len(again.metrics if name == "metrics.jsonl" else again.histograms) == whole - 1
    assert again.value is None


@pytest.mark.parametrize("name", ["status.json", "env.json", "metrics.jsonl", "histograms.jsonl"])
def test_a_missing_file_is_named(name: str, copied: Results) -> None:
    folder = copied.runs[0].folder
    (folder / name).unlink()
    expected = f"{folder}: {name} is missing.\n  fix: give a folder that `normlab compare` wrote."
    assert message(lambda: everything(copied.folder)) == expected


def test_a_folder_that_holds_nothing_is_named(tmp_path: Path) -> None:
    expected = f"{tmp_path}: recipe.toml is missing.\n  fix: give a folder that `normlab compare` wrote."
    assert message(lambda: load(tmp_path)) == expected


def test_a_run_that_was_not_started_is_planned(small: Callable[..., Recipe], tmp_path: Path) -> None:
    results = load(create(small(), tmp_path))
    assert {run.status for run in results.runs} == {Status("planned", 0, 2)}
    assert all(run.value is None for run in results.runs)


def test_runs_chosen_by_hand_differ_in_what_their_settings_say(finished: Results) -> None:
    chosen = gather([run.folder for run in finished.runs])
    assert chosen.variants == ("none", "batch")
    assert chosen.recipe.axes == {"norm": ("none", "batch")}
    assert chosen.recipe.seeds == 2
    assert [row.values for row in summarize(chosen).variants] == [row.values for row in summarize(finished).variants]


def test_runs_chosen_by_hand_are_paired_by_seed_in_any_order(finished: Results) -> None:
    none0, batch0, none1, batch1 = (run.folder for run in finished.runs)
    chosen = summarize(gather([none0, none1, batch1, batch0]))
    assert [row.values for row in chosen.variants] == [row.values for row in summarize(finished).variants]
    assert chosen.verdict == summarize(finished).verdict


def test_runs_chosen_by_hand_may_miss_a_seed(finished: Results) -> None:
    none0, batch0, _, batch1 = (run.folder for run in finished.runs)
    rows = summarize(gather([none0, batch0, batch1])).variants
    whole = summarize(finished).variants
    assert rows[0].values == (whole[0].values[0], None)
    assert rows[1].values == whole[1].values


def test_the_dots_of_runs_chosen_by_hand_have_their_own_seeds(finished: Results) -> None:
    """The second seed alone: its dots were once labelled with the first."""
    chosen = gather([run.folder for run in finished.runs if run.config.seed == 1])
    spec = figures(chosen)[0].spec
    assert spec is not None
    assert {row["seed"] for row in spec["datasets"]["dots"]} == {1}


def test_an_epoch_out_of_order_is_named(copied: Results) -> None:
    path = copied.runs[0].folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2] + lines[1])
    with pytest.raises(RecordError) as raised:
        _ = load(copied.folder).runs[0].metrics
    assert str(raised.value).startswith(f"{path}: the file is damaged.\n  got: line 2: epoch 2 where 1 was to be\n")


def test_a_histogram_that_was_taken_out_is_missed(copied: Results) -> None:
    path = copied.runs[0].folder / "histograms.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(RecordError) as raised:
        _ = load(copied.folder).runs[0].histograms
    assert "the line of epoch 0, " in str(raised.value)
    assert "is missing" in str(raised.value)


@pytest.mark.parametrize("change", [{"first": 999}, {"first": -1}, {"counts": [1] * 257}], ids=str)
def test_counts_beside_the_grid_are_refused(change: dict[str, Any], copied: Results) -> None:
    path = copied.runs[0].folder / "histograms.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps(json.loads(first) | change) + "\n" + "".join(others))
    with pytest.raises(RecordError) as raised:
        _ = load(copied.folder).runs[0].histograms
    assert "line 1: " in str(raised.value)


def test_an_environment_that_is_no_object_is_damaged(copied: Results) -> None:
    path = copied.runs[0].folder / "env.json"
    path.write_text("[]")
    with pytest.raises(RecordError) as raised:
        _ = load(copied.folder).runs[0].environment
    assert "an object was to be here, not list" in str(raised.value)


def test_runs_on_different_data_are_not_compared(
    small: Callable[..., Recipe], finished: Results, tmp_path: Path
) -> None:
    other = compare(small("seeds=1", "epochs=1", "norm=none", "model.depth=1", recipe="bad-init"), tmp_path)
    expected = "report: runs on different data cannot be compared.\n  fix: choose runs of one data set."
    assert message(lambda: gather([finished.runs[0].folder, other.runs[0].folder])) == expected
