"""Runs side by side on this machine, with everything that can happen to one: it ends, it fails, it dies, it hangs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from normlab.lab import Progress, Recipe, Results, children, compare, on_worker, resume
from normlab.lab.cluster import local, undisturbed

ACCIDENTS = """
import ctypes
import os
import signal

from normlab.lab import child, train

run, append = train.run, train.append_lines


def run_with_accidents(config, folder, report):
    def append_or_not(path, lines):
        lines = list(lines)
        first = not folder.with_name(f"{folder.name}.attempt1").exists()
        if config.seed == 0 and lines[0]["epoch"] == 1:
            if config.norm == "layer" or (config.norm == "batch" and first):
                os.kill(os.getpid(), signal.SIGKILL)
        if config.seed == 1 and lines[0]["epoch"] == 1 and config.norm == "rms":
            ctypes.PyDLL(None).sleep(1000)  # holds the lock of the interpreter
        append(path, lines)

    train.append_lines = append_or_not
    if config.norm == "rms" and config.seed == 0:
        raise ValueError("not today")
    run(config, folder, report)


train.run = run_with_accidents
child.main()
"""


@pytest.fixture(scope="module")
def heard() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def results(
    small: Callable[..., Recipe], heard: list[Progress], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    """With seed 0 `rms` fails, `batch` dies once in the middle and `layer` every time; with seed 1 `rms` hangs."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "child_of_test.py").write_text(ACCIDENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "COMMAND", (sys.executable, "-P", str(folder / "child_of_test.py")))
        recipe = small("norm=layer,none,batch,rms")
        yield compare(recipe, folder, jobs=2, on_progress=heard.append, timeout=5)


def test_a_run_that_dies_once_is_run_again(results: Results) -> None:
    run = results.of("batch")[0]
    assert run.status.state == "done"
    aside = run.folder.with_name(f"{run.folder.name}.attempt1")
    assert len((aside / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_run_that_dies_again_is_failed(results: Results) -> None:
    run = results.of("layer")[0]
    assert run.status.state == "failed"
    assert run.status.reason == "the process of the run was killed by SIGKILL"


def test_a_run_that_raises_is_failed(results: Results) -> None:
    run = results.of("rms")[0]
    assert (run.status.state, run.status.reason) == ("failed", "ValueError: not today")


def test_a_run_that_hangs_is_failed(results: Results) -> None:
    run = results.of("rms")[1]
    assert (run.status.state, run.status.reason) == ("failed", "stopped after 5 s (--timeout)")
    assert not run.folder.with_name(f"{run.folder.name}.attempt1").exists()


def test_no_run_pays_for_the_accidents_of_another(results: Results) -> None:
    failed = {(run.variant, run.config.seed) for run in results.runs if run.status.state != "done"}
    assert failed == {("layer", 0), ("rms", 0), ("rms", 1)}


def test_runs_on_workers_are_those_of_one_process(
    results: Results, finished: Results, recorded: Callable[[Results], Mapping[str, Any]]
) -> None:
    """Bit for bit, whatever happened beside them."""
    runs = tuple(run for run in results.runs if run.variant in finished.variants)
    assert recorded(Results(results.folder, results.recipe, runs)) == recorded(finished)


def test_progress_arrives_from_the_workers(results: Results, heard: list[Progress]) -> None:
    for run in results.of("none"):
        news = [each for each in heard if each.run.folder == run.folder.name]
        assert [each.status.epoch for each in news] == [0, 1, 2]
        assert news[-1].status == run.status
        assert [each.metric for each in news] == [line["metric"]["test"]["eval"] for line in run.metrics]
    for run in results.runs:
        assert [each.status for each in heard if each.run.folder == run.folder.name][-1] == run.status


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_run_that_ended_before_its_worker_died_is_not_run_again(copied: Results) -> None:
    """The worker died between the last record and the news of it: the scheduler asks again."""
    run = copied.runs[0]
    before = times(run.folder)
    with local(1) as client:
        order = asdict(on_worker.Order(str(copied.folder), None))
        client.submit(on_worker.work_as_told, run.config.to_toml(), run.folder.name, order).result()
    assert times(run.folder) == before
    assert len(list(copied.folder.iterdir())) == 5


def test_a_damaged_run_is_run_again_on_workers_too(
    copied: Results, finished: Results, recorded: Callable[[Results], Mapping[str, Any]]
) -> None:
    """Its status says `done`, which is what a worker goes by."""
    (copied.runs[0].folder / "metrics.jsonl").write_text("{}\n")
    assert recorded(resume(copied.folder, timeout=60)) == recorded(finished)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works, here and in the processes started here; what was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5])
def test_ctrl_c_while_the_workers_start_says_how_to_go_on(seconds: float, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("normlab"), "compare", "epochs=500", "--jobs", "2", "--out", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as there:
        while not list(tmp_path.glob("*/recipe.toml")) and there.poll() is None:
            time.sleep(0.02)
        time.sleep(seconds)
        os.killpg(there.pid, signal.SIGINT)
        try:
            out, err = there.communicate(timeout=60)
        finally:
            there.kill()
    folder = next(tmp_path.iterdir())
    assert there.returncode == 130
    assert err == f"Stopped. 0 of 15 runs are finished and kept.\nGo on with: normlab compare --resume {folder}\n"
    assert "Traceback" not in out


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_end_of_what_must_not_be_disturbed() -> None:
    done: list[bool] = []

    def interrupted() -> None:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(True)
        done.append(False)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
