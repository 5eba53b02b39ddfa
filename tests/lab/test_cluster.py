"""Runs on a dask cluster of separate processes, and what is left when processes are killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster

from normlab.errors import RecordError, UsageError
from normlab.lab import Progress, Recipe, Results, cluster, compare, create, load, on_worker, resume, summarize, workers
from normlab.lab.summary import to_json

SmallRecipe = Callable[..., Recipe]
Recorded = Callable[[Results], Mapping[str, Any]]

# dask warns when the disk is slow; under `error` that would stop the cluster from starting
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories is taking:UserWarning")
LONG = "epochs=100000"


def normlab(*words: object) -> list[str]:
    return [str(Path(sys.executable).with_name("normlab")), "compare", *map(str, words)]


def dask(place: Path, *words: object) -> subprocess.Popen[bytes]:
    """A process of the cluster; what lies in `place` comes first when it imports."""
    command = [Path(sys.executable).with_name("dask"), *map(str, words), "--no-dashboard", "--host", "127.0.0.1"]
    path = os.pathsep.join([str(place), *sys.path])
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path})


def wait_for(holds: Callable[[], object]) -> None:
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("this did not come about within a minute")


def told(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it wrote on stdout and stderr, if it ends."""
    try:
        return process.communicate(timeout=60)
    finally:
        process.kill()


def children_of(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


@dataclass
class Cluster:
    """A scheduler and two workers of one thread, each a process of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]

    def runs(self) -> list[psutil.Process]:
        return [child for each in self.workers for child in children_of(each)]


@contextmanager
def started(place: Path) -> Iterator[Cluster]:
    file = place / "scheduler.json"
    processes = [dask(place, "scheduler", "--port", 0, "--scheduler-file", file)]
    try:
        wait_for(lambda: file.exists() and file.read_text())
        address = json.loads(file.read_text())["address"]
        for number in range(2):
            own = place / f"worker{number}"
            processes.append(dask(place, "worker", address, "--nthreads", 1, "--no-nanny", "--local-directory", own))
        yield Cluster(address, processes[0], processes[1:])  # of which a test may take some away
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that nobody may kill."""
    with started(tmp_path_factory.mktemp("lasting")) as here:
        yield here


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster to kill."""
    with started(tmp_path) as here:
        yield here


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C works in the processes started here; what was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def threads() -> Iterator[str]:
    """The address of a cluster in this process."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
    ) as here:
        yield here.scheduler_address


def test_a_cluster_that_loses_a_worker_records_what_one_process_records(
    small: SmallRecipe, mortal: Cluster, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers are somewhere else in the file system: a relative path would mislead them."""
    monkeypatch.chdir(tmp_path)
    recipe = small("epochs=30", "train_samples=200")

    def kill_who_runs_it(news: Progress) -> None:
        for worker in mortal.workers:
            # a child goes to the folder of whoever wants the run when it begins one
            if any(child.cwd() == str(tmp_path) for child in children_of(worker)):
                worker.kill()
        mortal.workers.clear()

    results = compare(recipe, "there", 1, kill_who_runs_it, mortal.address)
    assert recorded(results) == recorded(compare(recipe, "here"))
    aside = [path.name for path in results.folder.iterdir() if ".attempt" in path.name]
    assert len(aside) == 1
    assert {path.name for path in results.folder.iterdir()} == {
        "recipe.toml",
        *aside,
        *(run.folder.name for run in results.runs),
    }


def test_a_run_that_takes_too_long_costs_the_cluster_no_worker(
    small: SmallRecipe, lasting: Cluster, tmp_path: Path
) -> None:
    results = compare(small(LONG, "norm=none"), tmp_path, 0, scheduler=lasting.address, timeout=1)
    assert [run.status.reason for run in results.runs] == ["stopped after 1 s (--timeout)"] * 2
    assert [each.poll() for each in (lasting.scheduler, *lasting.workers)] == [None] * 3
    assert lasting.runs() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_when_we_go_our_runs_stop_and_the_cluster_goes_on(
    number: signal.Signals, lasting: Cluster, tmp_path: Path
) -> None:
    command = normlab(LONG, "--scheduler", lasting.address, "--out", tmp_path / "out")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as here:
        wait_for(lambda: here.poll() is not None or len(list(tmp_path.glob("out/*/*/metrics.jsonl"))) == 2)
        here.send_signal(number)
        err = told(here)[1]
    folder = next((tmp_path / "out").iterdir())
    states = [run.status.state for run in load(folder).runs]
    if number == signal.SIGINT:
        assert here.returncode == 130
        assert err == f"Stopped. 0 of 15 runs are finished and kept.\nGo on with: normlab compare --resume {folder}\n"
        assert sorted(states) == ["interrupted"] * 2 + ["planned"] * 13
    else:
        assert sorted(states) == ["planned"] * 13 + ["running"] * 2
    wait_for(lambda: not lasting.runs())
    with Client(lasting.address, set_as_default=False) as client:
        assert list(client.nthreads().values()) == [1, 1]
        assert client.processing() == dict.fromkeys(client.nthreads(), ())


def test_a_scheduler_that_goes_is_told(small: SmallRecipe, mortal: Cluster, tmp_path: Path) -> None:
    folder = create(small(LONG), tmp_path / "out")
    with pytest.raises(RecordError) as raised:
        resume(folder, 2, lambda news: mortal.scheduler.kill(), mortal.address)
    assert str(raised.value) == (
        "--scheduler: the scheduler has gone; every finished run is kept.\n"
        f"  fix: start it, then: normlab compare --resume {folder} --scheduler ADDRESS"
    )
    assert "running" not in [run.status.state for run in load(folder).runs]


def test_an_address_that_nobody_answers(small: SmallRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    folder = create(small(), tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address, got in {
            "tcp://127.0.0.1:1": "no answer within 0.5 s",
            f"127.0.0.1:{silent.getsockname()[1]}": "no answer within 0.5 s",
            "nonsense": "missing port number in address 'nonsense'",
        }.items():
            with pytest.raises(UsageError) as raised:
                resume(folder, scheduler=address)
            assert str(raised.value) == (
                f"--scheduler {address}: no dask scheduler answers at this address.\n"
                f"  got: {got}\n"
                f"  fix: start one with `dask scheduler`, then: normlab compare --resume {folder} --scheduler ADDRESS"
            )
    assert [path.name for path in folder.iterdir()] == ["recipe.toml"]


def test_the_address_of_a_worker_is_not_that_of_a_scheduler(small: SmallRecipe, threads: str, tmp_path: Path) -> None:
    with Client(threads, set_as_default=False) as client:
        worker = next(iter(client.nthreads()))
    with pytest.raises(UsageError, match="got: a worker of dask"):
        compare(small(), tmp_path, scheduler=worker)


def test_a_worker_with_other_versions(
    small: SmallRecipe, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(small(), tmp_path)
    versions = on_worker._versions()
    monkeypatch.setattr(on_worker, "_versions", lambda: versions | {"torch": "1.0"})
    with pytest.raises(UsageError) as raised:
        resume(folder, scheduler=threads)
    rule, got, fix = str(raised.value).split("\n")
    assert rule == "--scheduler: the workers must have our versions."
    address, _, rest = got.removeprefix("  got: ").partition(" has ")
    assert address.startswith("tcp://")
    ours = f"normlab {versions['normlab']}"
    assert rest == f"{ours}, torch 1.0; here {ours}, torch {versions['torch']}"
    assert fix == (
        f"  fix: install the same on every worker, then: normlab compare --resume {folder} --scheduler ADDRESS"
    )


def test_a_worker_that_does_not_see_the_folder(
    small: SmallRecipe, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = create(small(), tmp_path)
    monkeypatch.setattr(workers, "write_whole", lambda path, text: None)
    monkeypatch.setattr(on_worker, "SEE_SECONDS", 0.1)
    with pytest.raises(UsageError) as raised:
        resume(folder, scheduler=threads)
    rule, got, fix = str(raised.value).split("\n")
    assert rule == "--scheduler: the workers must share the file system of the comparison."
    assert got.endswith(f" does not see {folder}/workers.token")
    assert fix == "  fix: choose a folder that they see with --out."


def test_a_cluster_without_normlab(small: SmallRecipe, tmp_path: Path) -> None:
    (tmp_path / "normlab.py").write_text("raise ModuleNotFoundError(\"No module named 'normlab'\")")
    folder = create(small(), tmp_path / "out")
    versions = ", ".join(f"{name} {version}" for name, version in on_worker._versions().items())
    with started(tmp_path) as here:
        with pytest.raises(UsageError) as raised:
            resume(folder, scheduler=here.address)
        assert [each.poll() for each in here.workers] == [None] * 2
    assert str(raised.value) == (
        "--scheduler: a worker cannot do our runs.\n"
        "  got: ModuleNotFoundError: No module named 'normlab'\n"
        f"  fix: install {versions} on every worker, then: normlab compare --resume {folder} --scheduler ADDRESS"
    )


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def less_times(table: dict[str, Any]) -> dict[str, Any]:
    """What `--json` says, less the times and the folder."""
    del table["folder"]
    for variant in table["variants"]:
        del variant["step_seconds"]
    return table


def test_after_a_kill_nothing_is_lost_and_nothing_is_run_twice(
    small: SmallRecipe, recorded: Recorded, tmp_path: Path
) -> None:
    recipe = small("epochs=30", "seeds=3")
    folder = create(recipe, tmp_path)

    def states() -> list[str]:
        return [run.status.state for run in load(folder).runs]

    command = normlab("--resume", folder, "--jobs", 2)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, process_group=0) as here:
        wait_for(lambda: here.poll() is not None or ("done" in states() and "running" in states()))
        children = children_of(here)
        os.killpg(here.pid, signal.SIGKILL)
    wait_for(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in children))
    assert len(children) == 2
    left = files(folder)
    time.sleep(0.3)
    assert files(folder) == left, "an orphan goes on writing"
    finished = [run.folder for run in load(folder).runs if run.status.state == "done"]
    assert 1 <= len(finished) < 6

    resumed = subprocess.run([*command, "--json"], check=False, capture_output=True)
    assert resumed.returncode == 0, resumed.stderr
    again = json.loads(resumed.stdout)
    now = files(folder)
    assert {path: now[path] for path in left if path.parent in finished} == {
        path: time for path, time in left.items() if path.parent in finished
    }
    whole = compare(recipe, tmp_path / "whole")
    assert recorded(load(folder)) == recorded(whole)
    assert less_times(again) == less_times(json.loads(json.dumps(to_json(summarize(whole), ""))))
