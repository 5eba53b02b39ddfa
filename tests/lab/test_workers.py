"""One cluster of two workers, with everything that can happen to a run: it ends, it fails, its worker dies."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from normlab.lab import Progress, Recipe, Results, compare
from normlab.lab import workers as workers_module
from normlab.lab.config import RunConfig

# dask warns when the disk is slow; under `error` that would stop the cluster from starting
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories is taking:UserWarning")


def work_with_accidents() -> Callable[[RunConfig, Path], None]:
    """With seed 0 `rms` fails, `batch` loses its worker once, in the middle, and `layer` loses it every time."""

    def work(config: RunConfig, folder: Path) -> None:  # not at the top level: the workers do not know this module
        from normlab.lab import train, workers

        append = train.append_lines

        def append_or_die(path: Path, lines: Any) -> None:
            lines = list(lines)
            first = not folder.with_name(f"{folder.name}.attempt1").exists()
            deadly = config.norm == "layer" or (config.norm == "batch" and first)
            if deadly and config.seed == 0 and lines[0]["epoch"] == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            append(path, lines)

        if config.norm == "rms" and config.seed == 0:
            raise ValueError("not today")
        train.append_lines = append_or_die
        try:
            workers._work(config, folder)
        finally:
            train.append_lines = append

    return work


@pytest.fixture(scope="module")
def heard() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def results(
    small: Callable[..., Recipe], heard: list[Progress], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    recipe = small("norm=layer,none,batch,rms")
    with pytest.MonkeyPatch.context() as patch:
        original, accident = workers_module._work, work_with_accidents()
        submit = workers_module.Client.submit

        def replaced(client: Any, function: Any, *arguments: Any, **settings: Any) -> Any:
            return submit(client, accident if function is original else function, *arguments, **settings)

        patch.setattr(workers_module.Client, "submit", replaced)
        yield compare(recipe, tmp_path_factory.mktemp("workers"), jobs=2, on_progress=heard.append)


def test_a_run_whose_worker_dies_once_is_run_again(results: Results) -> None:
    run = results.of("batch")[0]
    assert run.status.state == "done"
    aside = run.folder.with_name(f"{run.folder.name}.attempt1")
    assert len((aside / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_run_that_kills_its_worker_is_failed(results: Results) -> None:
    run = results.of("layer")[0]
    assert run.status.state == "failed"
    assert run.status.reason.startswith("KilledWorker: ")


def test_a_run_that_raises_is_failed(results: Results) -> None:
    run = results.of("rms")[0]
    assert (run.status.state, run.status.reason) == ("failed", "ValueError: not today")


def test_no_run_pays_for_the_accidents_of_another(results: Results) -> None:
    failed = {(run.variant, run.config.seed) for run in results.runs if run.status.state != "done"}
    assert failed == {("layer", 0), ("rms", 0)}


def test_runs_on_workers_are_those_of_one_process(
    results: Results, finished: Results, recorded: Callable[[Results], Mapping[str, Any]]
) -> None:
    """Bit for bit, whatever happened beside them on their workers."""
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


def test_a_run_that_ended_before_its_worker_died_is_not_run_again(copied: Results) -> None:
    """The worker died between the last record and the news of it: the scheduler asks again."""
    run = copied.runs[0]
    before = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()}
    workers_module._work(run.config, run.folder)
    assert {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir()} == before
    assert len(list(copied.folder.iterdir())) == 5
