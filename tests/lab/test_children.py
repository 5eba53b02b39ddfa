"""Runs in processes of their own: what comes back from them, and how they end. `train.run` is a stand-in here."""

import errno
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normlab.lab import Recipe, children, planned_runs
from normlab.lab.children import Origin, RunDied, RunFailed, run_apart, started
from normlab.lab.config import RunConfig
from normlab.lab.read import read_status
from normlab.lab.record import Status, write_status

Teach = Callable[[str], None]


@pytest.fixture
def config(small: Callable[..., Recipe]) -> RunConfig:
    return planned_runs(small())[1].config


@pytest.fixture
def teach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teach:
    """Makes every child do these lines as its run."""

    def make(body: str) -> None:
        script = tmp_path / "child_of_test.py"
        script.write_text(
            "import ctypes, os, signal, sys, time, types\n"
            "from normlab.lab import child\n"
            "from normlab.lab.record import Status, write_status\n"
            "child._load = lambda: None\n"
            "def run(config, folder, report):\n" + textwrap.indent(textwrap.dedent(body), "    ") + "\n"
            "sys.modules['normlab.lab.train'] = types.SimpleNamespace(run=run)\n"
            "child.main()\n"
        )
        monkeypatch.setattr(children, "COMMAND", (sys.executable, "-P", str(script)))

    return make


def done(config: RunConfig, folder: Path, **settings: Any) -> list[tuple[Status, float | None]]:
    heard: list[tuple[Status, float | None]] = []
    with started(0):
        run_apart(config, folder, lambda *news: heard.append(news), **settings)
    return heard


def has_gone(pid: int) -> bool:
    """Within ten seconds; a process that nobody has waited for yet has gone too."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def test_a_child_gets_the_config_and_tells_the_news(teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    teach(
        """
        print("what a library prints is no news")
        folder.mkdir()
        (folder / "config.toml").write_text(config.to_toml())
        report(Status("running", 1, 2), 0.1)
        report(Status("done", 2, 2, "", "a", "b"), None)
        """
    )
    assert done(config, tmp_path / "run") == [
        (Status("running", 1, 2), 0.1),
        (Status("done", 2, 2, "", "a", "b"), None),
    ]
    assert RunConfig.from_toml((tmp_path / "run" / "config.toml").read_text()) == config


def test_a_child_works_where_the_run_was_planned(
    teach: Teach, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it finds the functions that the user names by a relative path or as a module."""
    teach("(folder / 'here').write_text(os.getcwd() + ' ' + sys.path[-1])")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, "own"])
    done(config, Path())
    assert (tmp_path / "here").read_text() == f"{tmp_path} {tmp_path}/own"
    done(config, tmp_path, planned_at=Origin("/usr", ["/own"]))
    assert (tmp_path / "here").read_text() == "/usr /own"


def test_a_child_does_one_run_after_another_whatever_became_of_them(
    teach: Teach, config: RunConfig, tmp_path: Path
) -> None:
    teach(
        """
        with open(folder / "pids", "a") as file:
            file.write(f"{os.getpid()}\\n")
        if config.norm == "batch":
            raise ValueError("not today")
        """
    )
    with started(1):
        for _ in range(2):
            with pytest.raises(RunFailed) as raised:
                run_apart(config, tmp_path, lambda status, metric: None)
            assert str(raised.value) == "ValueError: not today"
        run_apart(config.model_copy(update={"norm": "none"}), tmp_path, lambda status, metric: None)
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 3
    assert len(set(pids)) == 1
    assert has_gone(int(pids[0]))


def test_a_trouble_of_the_disk_keeps_its_number(teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    teach(f"raise OSError({errno.ENOSPC}, 'No space left on device', str(folder))")
    with pytest.raises(OSError, match="No space left") as raised:
        done(config, tmp_path)
    assert raised.value.errno == errno.ENOSPC
    assert str(raised.value) == f"[Errno 28] No space left on device: '{tmp_path}'"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "the process of the run was killed by SIGKILL"),
        ("ctypes.string_at(0)", "the process of the run was killed by SIGSEGV"),
        ("os._exit(3)", "the process of the run ended with exit code 3"),
    ],
)
def test_the_death_of_a_child_is_told(body: str, reason: str, teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    teach(body)
    with pytest.raises(RunDied) as raised:
        done(config, tmp_path)
    assert str(raised.value) == reason


@pytest.mark.parametrize("hang", ["time.sleep(1000)", "ctypes.PyDLL(None).sleep(1000)"])
def test_a_child_whose_time_is_up_is_killed(hang: str, teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    """In C too, where nothing else of Python runs: `PyDLL` keeps the lock of the interpreter."""
    teach(f"(folder / 'pid').write_text(str(os.getpid()))\n{hang}")
    with pytest.raises(RunFailed) as raised:
        done(config, tmp_path, timeout=0.25)
    assert str(raised.value) == "stopped after 0.25 s (--timeout)"
    assert type(raised.value) is RunFailed
    assert has_gone(int((tmp_path / "pid").read_text()))


def test_the_time_counts_from_the_beginning_of_the_run(teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    """Loading took longer than that."""
    teach("report(Status('done', 2, 2), 0.5)")
    script = Path(children.COMMAND[-1])
    script.write_text(script.read_text().replace("child._load = lambda: None", "child._load = lambda: time.sleep(2)"))
    assert len(done(config, tmp_path, timeout=1.5)) == 1


def test_a_run_that_ended_in_its_last_moment_has_ended(teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    teach("write_status(folder, Status('done', 2, 2))\ntime.sleep(1000)")
    assert done(config, tmp_path, timeout=0.25) == []


def test_a_run_that_nobody_wants_any_more_is_killed(teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    teach("(folder / 'pid').write_text(str(os.getpid()))\ntime.sleep(1000)")
    with pytest.raises(RunFailed):
        done(config, tmp_path, is_wanted=lambda: not (tmp_path / "pid").exists())
    assert has_gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_rests_too_long_ends(
    teach: Teach, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teach("(folder / 'pid').write_text(str(os.getpid()))")
    monkeypatch.setattr(children, "REST_SECONDS", 0.1)
    run_apart(config, tmp_path, lambda status, metric: None)
    assert has_gone(int((tmp_path / "pid").read_text()))


def test_a_child_ends_when_its_parent_is_killed_and_ctrl_c_does_not_reach_it(
    teach: Teach, config: RunConfig, tmp_path: Path
) -> None:
    teach(
        """
        (folder / "pid").write_text(f"{os.getpid()} {os.getpgid(0)}")
        while True:
            write_status(folder, Status("running", 1, 2))
        """
    )
    (tmp_path / "config.toml").write_text(config.to_toml())
    parent_does = (
        "import sys; from pathlib import Path; from normlab.lab import RunConfig, children\n"
        "folder = Path(sys.argv[1]); children.COMMAND = tuple(sys.argv[2:])\n"
        "config = RunConfig.from_toml((folder / 'config.toml').read_text())\n"
        "children.run_apart(config, folder, lambda status, metric: None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent_does, tmp_path, *children.COMMAND]) as parent:
        while not (tmp_path / "status.json").exists() and parent.poll() is None:
            time.sleep(0.05)
        parent.kill()
    pid, group = (int(word) for word in (tmp_path / "pid").read_text().split())
    assert group == pid  # the terminal sends Ctrl-C to the group of the parent
    assert has_gone(pid)
    write_status(tmp_path, Status("planned", 0, 2))
    time.sleep(0.2)
    assert read_status(tmp_path).state == "planned"


def test_what_cannot_be_loaded_is_the_reason(teach: Teach, config: RunConfig, tmp_path: Path) -> None:
    teach("pass")
    script = Path(children.COMMAND[-1])
    script.write_text(script.read_text().replace("types.SimpleNamespace(run=run)", "None"))
    with pytest.raises(RunFailed) as raised:
        done(config, tmp_path)
    assert str(raised.value) == ("ModuleNotFoundError: import of normlab.lab.train halted; None in sys.modules")
