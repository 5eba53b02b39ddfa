"""Comparisons in this process: what is run, what is kept when something stops them, how they go on."""

import errno
import fcntl
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from normlab.errors import RecordError
from normlab.lab import Progress, Recipe, Results, compare, create, load, planned_runs, resume, summarize
from normlab.lab import compare as compare_function
from normlab.lab.mend import mend
from normlab.lab.record import append_lines, write_status
from normlab.lab.train import network

SmallRecipe = Callable[..., Recipe]
Recorded = Callable[[Results], Mapping[str, Any]]


def bytes_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def states(results: Results) -> list[str]:
    return [run.status.state for run in results.runs]


def test_every_planned_run_is_run_and_read_back(finished: Results, small: SmallRecipe) -> None:
    assert finished.recipe == small()
    assert [run.folder.name for run in finished.runs] == [plan.folder for plan in planned_runs(small())]
    assert states(finished) == ["done"] * 4
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {"recipe.toml", *(plan.folder for plan in planned_runs(small()))}
    assert {path.name for path in finished.runs[0].folder.iterdir()} == {
        "config.toml",
        "env.json",
        "status.json",
        "metrics.jsonl",
        "histograms.jsonl",
        "model.json",
        "weights.safetensors",
    }


def test_variants_of_a_seed_share_weights_and_batches_and_seeds_do_not(finished: Results) -> None:
    for field in ("initial_weights", "batch_order"):
        none0, batch0, none1, batch1 = (getattr(run.status, field) for run in finished.runs)
        assert len(none0) == 64
        assert (none0, none1) == (batch0, batch1)
        assert none0 != none1


def test_the_config_alone_reproduces_the_run(finished: Results, tmp_path: Path) -> None:
    from normlab.lab.config import RunConfig
    from normlab.lab.train import run

    before = finished.runs[1]
    config = RunConfig.from_toml((before.folder / "config.toml").read_text())
    run(config, tmp_path / "again", lambda status, metric: None)
    for name in ("weights.safetensors", "histograms.jsonl", "config.toml", "env.json"):
        assert (tmp_path / "again" / name).read_bytes() == (before.folder / name).read_bytes()


def test_progress_tells_every_epoch_of_every_run(small: SmallRecipe, tmp_path: Path) -> None:
    heard: list[Progress] = []
    results = compare(small("seeds=1"), tmp_path, on_progress=heard.append)
    assert [(news.run.variant, news.status.epoch, news.status.state) for news in heard] == [
        ("none", 0, "running"),
        ("none", 1, "running"),
        ("none", 2, "done"),
        ("batch", 0, "running"),
        ("batch", 1, "running"),
        ("batch", 2, "done"),
    ]
    lines = [line["metric"]["test"]["eval"] for run in results.runs for line in run.metrics]
    assert [news.metric for news in heard] == lines


def test_a_new_comparison_has_a_new_folder(small: SmallRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Clock":
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr("normlab.lab.record.datetime", Clock)
    for _ in range(3):
        create(small(), tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "20260102-030405-deep-tanh",
        "20260102-030405-deep-tanh-2",
        "20260102-030405-deep-tanh-3",
    ]
    assert load(tmp_path / "a" / "b" / "20260102-030405-deep-tanh-3").recipe == small()


def test_a_folder_that_cannot_be_made_is_named(
    small: SmallRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(RecordError) as raised:
        create(small(), file)
    first, got, fix = str(raised.value).split("\n")
    assert first.startswith(f"{file}/")
    assert first.endswith("-deep-tanh: the folder cannot be made.")
    assert got == f"  got: [Errno 20] Not a directory: '{first.partition(': ')[0]}'"
    assert fix == "  fix: choose another with --out."
    assert file.read_text() == "mine"


def test_ctrl_c_keeps_what_is_finished_and_resume_does_the_rest(
    small: SmallRecipe, finished: Results, recorded: Recorded, tmp_path: Path
) -> None:
    folder = create(small(), tmp_path)

    def stop(news: Progress) -> None:
        if news.run.variant == "batch" and news.status.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(folder, on_progress=stop)
    stopped = load(folder)
    assert states(stopped) == ["done", "interrupted", "planned", "planned"]
    assert stopped.runs[1].status.reason == "stopped before its end"
    assert len(stopped.runs[1].metrics) == 2
    kept, left = bytes_of(stopped.runs[0].folder), bytes_of(stopped.runs[1].folder)

    heard: list[Progress] = []
    results = resume(folder, on_progress=heard.append)
    assert {news.run.folder for news in heard} == {run.folder.name for run in stopped.runs[1:]}
    assert recorded(results) == recorded(finished)
    assert bytes_of(results.runs[0].folder) == kept
    aside = stopped.runs[1].folder.with_name(f"{stopped.runs[1].folder.name}.attempt1")
    assert bytes_of(aside) == left


def test_a_finished_comparison_is_left_alone(copied: Results) -> None:
    before = {run.folder: bytes_of(run.folder) for run in copied.runs}
    again = resume(copied.folder, on_progress=lambda news: pytest.fail("something ran"))
    assert {run.folder: bytes_of(run.folder) for run in again.runs} == before
    assert len(list(copied.folder.iterdir())) == 5


def test_where_all_is_finished_no_worker_is_asked(copied: Results) -> None:
    """Nobody answers at that address."""
    again = resume(copied.folder, jobs=2, scheduler="tcp://127.0.0.1:1", timeout=9)
    assert states(again) == ["done"] * 4


def test_a_killed_run_is_unfinished_and_run_again(copied: Results, finished: Results, recorded: Recorded) -> None:
    """A process that is killed leaves `running`, and perhaps half a line."""
    run = copied.runs[2]
    status = json.loads((run.folder / "status.json").read_text()) | {"state": "running", "epoch": 1}
    (run.folder / "status.json").write_text(json.dumps(status))
    (run.folder / "weights.safetensors").unlink()
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text()[:-100])
    assert states(load(copied.folder)) == ["done", "done", "running", "done"]
    assert summarize(load(copied.folder)).variants[0].unfinished == 1
    assert recorded(resume(copied.folder)) == recorded(finished)


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def full(folder: Path) -> str:
    return (
        f"{folder}: the disk takes no more records; every finished run is kept.\n"
        "  got: [Errno 28] No space left on device\n"
        f"  fix: make room, then: normlab compare --resume {folder}"
    )


def test_a_full_disk_stops_the_comparison_and_says_how_to_go_on(
    small: SmallRecipe, finished: Results, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(small(), tmp_path)

    def append(path: Path, records: Any) -> None:
        lines = list(records)
        if path.parent.name.startswith("batch-seed0") and lines[0]["epoch"] == 1:
            no_space()
        append_lines(path, lines)

    with monkeypatch.context() as patch:
        patch.setattr("normlab.lab.train.append_lines", append)
        with pytest.raises(RecordError) as raised:
            resume(folder)
    assert str(raised.value) == full(folder)
    stopped = load(folder)
    assert states(stopped) == ["done", "interrupted", "planned", "planned"]
    assert stopped.runs[0].value == finished.runs[0].value
    assert recorded(resume(folder)) == recorded(finished)


def test_a_disk_that_is_full_before_a_run_begins_leaves_a_comparison_that_can_be_read(
    small: SmallRecipe, finished: Results, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the run is made, and nothing can be written into it."""
    folder = create(small(), tmp_path)

    def write(path: Path, status: Any) -> None:
        if path.name.startswith("batch-seed0"):
            no_space()
        write_status(path, status)

    with monkeypatch.context() as patch:
        patch.setattr("normlab.lab.record.write_status", write)
        with pytest.raises(RecordError) as raised:
            resume(folder)
    assert str(raised.value) == full(folder)
    assert states(load(folder))[0] == "done"
    assert recorded(resume(folder)) == recorded(finished)


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EIO])
def test_other_troubles_of_the_disk_stop_it_too(
    number: int, small: SmallRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(path: Path, records: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("normlab.lab.train.append_lines", append)
    folder = create(small(), tmp_path)
    with pytest.raises(RecordError, match="the disk takes no more records"):
        resume(folder)
    assert states(load(folder)) == ["interrupted", "planned", "planned", "planned"]


def test_a_run_that_fails_says_why_and_the_others_go_on(
    small: SmallRecipe, finished: Results, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(config: Any, data: Any) -> Any:
        if config.norm == "batch" and config.seed == 0:
            raise RuntimeError("no such layer")
        return network(config, data)

    heard: list[Progress] = []
    with monkeypatch.context() as patch:
        patch.setattr("normlab.lab.train.network", build)
        results = compare(small(), tmp_path, on_progress=heard.append)
    assert states(results) == ["done", "failed", "done", "done"]
    failed = results.runs[1]
    assert failed.status.reason == "RuntimeError: no such layer"
    assert [news.status for news in heard if news.run.folder == failed.folder.name] == [failed.status]
    assert (failed.folder / "config.toml").read_text() == failed.config.to_toml()
    assert summarize(results).variants[1].values == (None, finished.runs[3].value)
    assert recorded(resume(results.folder)) == recorded(finished)


def test_a_run_that_fails_before_it_has_a_folder_is_recorded_too(
    small: SmallRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, seed: int, train_samples: int) -> NoReturn:
        raise ValueError("no data")

    monkeypatch.setattr("normlab.lab.train.load_data", refuse)
    results = compare(small("seeds=1"), tmp_path)
    assert [(run.status.state, run.status.reason) for run in results.runs] == [("failed", "ValueError: no data")] * 2
    assert load(results.runs[0].folder).runs[0].status == results.runs[0].status


def test_two_processes_do_not_run_one_comparison(finished: Results) -> None:
    with (finished.folder / "recipe.toml").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RecordError) as raised:
            resume(finished.folder)
    assert str(raised.value) == (
        f"{finished.folder}: another process is running this comparison.\n  fix: wait for it to end."
    )


def test_a_damaged_run_is_run_again_and_moved_aside(small: SmallRecipe, tmp_path: Path) -> None:
    first = compare_function(small(), tmp_path)
    damaged = first.runs[0].folder
    whole = (damaged / "histograms.jsonl").read_bytes()
    (damaged / "metrics.jsonl").write_text('{"epoch":\n')
    again = resume(first.folder)
    assert again.runs[0].value is not None
    assert (damaged / "histograms.jsonl").read_bytes() == whole
    assert (damaged.with_name(f"{damaged.name}.attempt1") / "metrics.jsonl").read_text() == '{"epoch":\n'


@pytest.mark.parametrize("text", ["", '{"state": "done"', '{"state": "well"}', "\x00" * 40])
def test_a_run_with_a_damaged_status_is_run_again_and_moved_aside(
    text: str, copied: Results, finished: Results, recorded: Recorded
) -> None:
    damaged = copied.runs[1].folder
    (damaged / "status.json").write_text(text)
    left = bytes_of(damaged)
    kept = {run.folder: bytes_of(run.folder) for run in copied.runs if run.folder != damaged}
    with pytest.raises(RecordError):
        load(copied.folder)
    assert recorded(resume(copied.folder)) == recorded(finished)
    assert bytes_of(damaged.with_name(f"{damaged.name}.attempt1")) == left
    assert {folder: bytes_of(folder) for folder in kept} == kept


def test_what_is_damaged_counts_as_planned_before_it_is_run_again(copied: Results) -> None:
    """The display counts what is left before anything runs."""
    (copied.runs[0].folder / "status.json").unlink()
    (copied.runs[2].folder / "histograms.jsonl").write_text("{}\n")
    assert states(mend(copied.folder)) == ["planned", "done", "planned", "done"]
    assert states(mend(copied.folder)) == ["planned", "done", "planned", "done"]


def test_one_run_cannot_be_resumed(finished: Results) -> None:
    with pytest.raises(RecordError) as raised:
        resume(finished.runs[0].folder)
    assert str(raised.value) == (
        f"{finished.runs[0].folder}: this is one run; a comparison can be resumed.\n  fix: give its parent folder."
    )
