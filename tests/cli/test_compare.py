"""`normlab compare` and `normlab report` on small comparisons; the drawing itself is tested in tests/lab/report."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

from normlab.lab import load, summarize
from normlab.lab.summary import to_json
from normlab.lab.train import network

SMALL = ("seeds=1", "epochs=1", "model.depth=1", "model.width=8", "norm=none,batch", "probe=16")


@pytest.fixture
def call(program: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """Calls the program in this process, without the drawing."""

    def write(results: Any, path: Path) -> Path:
        path.write_text("drawn")
        return path

    def write_pngs(results: Any, folder: Path) -> list[Path]:
        return [folder / "loss.png"]

    monkeypatch.setattr("normlab.lab.report.write_report", write)
    if "normlab.cli.report" in sys.modules:
        monkeypatch.setattr("normlab.cli.report.write_report", write)
        monkeypatch.setattr("normlab.cli.report.write_pngs", write_pngs)
    else:
        monkeypatch.setattr("normlab.lab.report.write_pngs", write_pngs)

    return program


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The program itself, once, from outside, with everything that belongs to it."""
    folder = tmp_path_factory.mktemp("cli")
    command = [sys.executable, "-m", "normlab", "compare", *SMALL, "--jobs", "1", "--out", str(folder / "mine")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return done, folder


def plain(value: Any) -> Any:
    """As JSON gives it back: lists, no tuples."""
    return json.loads(json.dumps(value))


@pytest.fixture
def comparison(made: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path) -> Path:
    """A copy of the finished comparison."""
    (folder,) = (made[1] / "mine").iterdir()
    return Path(shutil.copytree(folder, tmp_path / "comparison"))


def test_the_main_job(made: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, parent = made
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in parent.iterdir()] == ["mine"]
    (folder,) = (parent / "mine").iterdir()
    results = load(folder)
    summary = summarize(results)
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"normlab \S+ · torch \S+ · deep-tanh", lines[0])
    assert lines[1] == results.recipe.question
    values = [row.values[0] or 0.0 for row in summary.variants]
    assert f"1/2  none, seed 0: done, accuracy {100 * values[0]:.1f} %, about " in done.stdout
    assert f"2/2  batch, seed 0: done, accuracy {100 * values[1]:.1f} %, about 0 s left" in lines
    assert " ".join(done.stdout.split()).count(summary.verdict) == 1
    assert lines[-2:] == [f"records  {folder}", f"report   {folder / 'report.html'}"]
    assert (folder / "report.html").stat().st_size > 1000


def test_json_is_one_object_on_stdout(call: Callable[..., Called], tmp_path: Path) -> None:
    code, out, err = call("compare", *SMALL, "--jobs", "1", "--out", str(tmp_path), "--json")
    (folder,) = tmp_path.iterdir()
    assert code == 0
    assert json.loads(out) == plain(to_json(summarize(load(folder)), str(folder)))
    assert "1/2  none, seed 0: done" in err
    assert err.endswith(f"records  {folder}\nreport   {folder / 'report.html'}\n")


def test_without_out_the_folder_goes_to_runs(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("compare", *SMALL, "--jobs", "1")
    assert code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"records  runs/{folder.name}\n" in out


def test_ctrl_c_says_how_to_go_on_and_resume_does(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(config: Any, data: Any) -> Any:
        if config.norm == "batch":
            raise KeyboardInterrupt
        return network(config, data)

    with monkeypatch.context() as patch:
        patch.setattr("normlab.lab.train.network", build)
        code, _, err = call("compare", *SMALL, "--jobs", "1", "--out", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert code == 130
    assert err == f"Stopped. 1 of 2 runs are finished and kept.\nGo on with: normlab compare --resume {folder}\n"
    assert not (folder / "report.html").exists()

    code, out, _ = call("compare", "--resume", str(folder), "--jobs", "1")
    assert code == 0
    assert "1/1  batch, seed 0: done" in out
    assert [run.status.state for run in load(folder).runs] == ["done", "done"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failed_run_is_named_and_the_exit_code_is_one(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(config: Any, data: Any) -> Any:
        if config.norm == "batch":
            raise RuntimeError("no such [layer]")
        return network(config, data)

    monkeypatch.setattr("normlab.lab.train.network", build)
    code, out, err = call("compare", *SMALL, "--jobs", "1", "--out", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert (code, err) == (1, "")
    name = load(folder).runs[1].folder.name
    assert f"failed   {name}: RuntimeError: no such [layer]\ngo on    normlab compare --resume {folder}\n" in out


def test_a_full_disk_is_said_without_a_traceback(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(path: Path, records: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("normlab.lab.train.append_lines", append)
    code, _, err = call("compare", *SMALL, "--jobs", "1", "--out", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert code == 1
    assert err == (
        f"{folder}: the disk takes no more records; every finished run is kept.\n"
        "  got: [Errno 28] No space left on device\n"
        f"  fix: make room, then: normlab compare --resume {folder}\n"
    )


def test_resume_of_what_is_not_a_comparison(call: Callable[..., Called], tmp_path: Path) -> None:
    assert call("compare", "--resume", str(tmp_path)) == (
        1,
        "",
        f"{tmp_path}: recipe.toml is missing.\n  fix: give a folder that `normlab compare` wrote.\n",
    )


def test_report_draws_a_comparison_again(call: Callable[..., Called], comparison: Path) -> None:
    code, out, err = call("report", str(comparison))
    assert (code, err) == (0, "")
    assert summarize(load(comparison)).verdict in " ".join(out.split())
    assert out.endswith(f"\nwrote  {comparison / 'report.html'}\n")
    assert (comparison / "report.html").read_text() == "drawn"


def test_report_for_machines(call: Callable[..., Called], comparison: Path, tmp_path: Path) -> None:
    code, out, err = call("report", str(comparison), "--json", "--png", str(tmp_path / "png"))
    assert code == 0
    assert json.loads(out) == plain(to_json(summarize(load(comparison)), str(comparison)))
    assert err == f"wrote  {comparison / 'report.html'}\nwrote  {tmp_path / 'png' / 'loss.png'}\n"


def test_report_puts_chosen_runs_side_by_side(
    call: Callable[..., Called], comparison: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [str(run.folder) for run in load(comparison).runs]
    code, out, _ = call("report", *folders)
    assert code == 0
    assert out.endswith("wrote  report.html\n")
    assert (tmp_path / "report.html").read_text() == "drawn"
    assert (comparison / "report.html").read_text() != "drawn"


@pytest.mark.parametrize("chosen", ["comparison", "runs"])
def test_report_never_writes_over_a_file(
    chosen: str, call: Callable[..., Called], comparison: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("report.html").write_text("mine")
    folders = [comparison] if chosen == "comparison" else [run.folder for run in load(comparison).runs]
    out = ["--out", "report.html"] if chosen == "comparison" else []
    assert call("report", *map(str, folders), *out) == (
        2,
        "",
        "report: report.html exists.\n  fix: choose another name with --out.\n",
    )
    assert Path("report.html").read_text() == "mine"


def test_report_on_a_damaged_folder_names_the_file_and_the_line(call: Callable[..., Called], comparison: Path) -> None:
    path = load(comparison).runs[1].folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0][:10], *lines[1:]]) + "\n")
    assert call("report", str(comparison)) == (
        1,
        "",
        f"{path}: the file is damaged.\n"
        "  got: line 1: Invalid JSON: EOF while parsing an object at line 1 column 10\n"
        "  fix: restore it, or run again: `normlab compare --resume` keeps the other runs.\n",
    )


def test_report_on_nothing(call: Callable[..., Called], tmp_path: Path) -> None:
    code, out, err = call("report", str(tmp_path / "nowhere"))
    assert (code, out) == (1, "")
    assert err.startswith(f"{tmp_path / 'nowhere'}: ")
    assert err.count("\n") == 2
