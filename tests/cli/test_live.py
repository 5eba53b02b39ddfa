"""The news of the runs: a live display in a terminal, plain lines elsewhere."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from normlab.cli.live import progress_display
from normlab.lab import RECIPES, Progress, Results, create, load, planned_runs, with_words
from normlab.lab.recipe import PlannedRun
from normlab.lab.record import Status, write_status


def planned(tmp_path: Path, *words: str, recipe: str = "deep-tanh") -> tuple[Results, tuple[PlannedRun, ...]]:
    chosen = with_words(RECIPES[recipe], ["norm=none,batch", "epochs=3", *words])
    return load(create(chosen, tmp_path)), planned_runs(chosen)


def news(run: PlannedRun, epoch: int, state: str = "running", metric: float | None = 0.5) -> Progress:
    return Progress(run, Status(state, epoch, 3), metric)  # type: ignore[arg-type]


def terminal() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(force_terminal=True, file=file, width=110, legacy_windows=False, _environ={}), file


def last_frame(file: io.StringIO) -> list[str]:
    """What is left on the screen when the display has ended: all that was written after the last line was erased."""
    frame = file.getvalue().rpartition("\x1b[2K")[2]
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frame).rstrip("\n").split("\n")]


def test_a_terminal_shows_every_run_and_the_whole(tmp_path: Path) -> None:
    results, (none, batch) = planned(tmp_path, "seeds=1")
    console, file = terminal()
    with progress_display(console, results) as hear:
        hear(news(none, 3, "done", 0.125))
        hear(news(batch, 0))
        hear(news(batch, 2, "running", 0.9))
    first, second, whole = last_frame(file)
    assert re.match(r"none seed 0 +\S+ +3/3 +12\.5 % +✓", first)
    assert re.match(r"batch seed 0 +\S+ +2/3 +90\.0 %", second)
    assert re.match(r"all runs +\S+ +5/6", whole)


def test_the_display_ends_even_if_something_breaks(tmp_path: Path) -> None:
    results, (none, _) = planned(tmp_path, "seeds=1")
    console, file = terminal()

    def stopped() -> None:
        with progress_display(console, results) as hear:
            hear(news(none, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert file.getvalue().endswith("\x1b[?25h")  # the cursor is back
    assert "1/3" in last_frame(file)[0]


def test_ends_that_are_not_good_are_marked_and_count_as_whole(tmp_path: Path) -> None:
    results, (none, batch) = planned(tmp_path, "seeds=1")
    console, file = terminal()
    with progress_display(console, results) as hear:
        hear(news(none, 1, "diverged", None))
        hear(news(batch, 0, "failed", None))
    first, second, whole = last_frame(file)
    assert re.search(r"1/3 +not finite +diverged", first)
    assert re.search(r"0/3 +\S.* failed", second)
    assert "6/6" in whole


def test_of_many_runs_only_those_under_way_are_shown(tmp_path: Path) -> None:
    results, runs = planned(tmp_path, "seeds=13")
    console, file = terminal()
    with progress_display(console, results) as hear:
        hear(news(runs[0], 3, "done"))
        hear(news(runs[1], 1))
        hear(news(runs[2], 2))
    frame = last_frame(file)
    assert [re.split(r" +━", line)[0] for line in frame] == ["batch seed 0", "none seed 1", "all runs"]
    assert "6/78" in frame[-1]
    assert "seed 12" not in file.getvalue()


def test_runs_that_have_ended_before_are_not_shown(tmp_path: Path) -> None:
    results, (none, batch) = planned(tmp_path, "seeds=1")
    (results.folder / none.folder).mkdir()
    write_status(results.folder / none.folder, Status("done", 3, 3))
    console, file = terminal()
    with progress_display(console, load(results.folder)) as hear:
        hear(news(batch, 3, "done"))
    assert "none" not in file.getvalue()
    assert "3/3" in last_frame(file)[0]


def test_elsewhere_there_is_one_plain_line_an_ended_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 14.0, 18.0, 20.0])
    monkeypatch.setattr("normlab.cli.live.time", SimpleNamespace(monotonic=lambda: next(clock)))
    results, runs = planned(tmp_path, "seeds=2")
    file = io.StringIO()
    with progress_display(Console(file=file, width=40), results) as hear:
        hear(news(runs[0], 1))
        hear(news(runs[0], 3, "done", 0.12345))
        hear(news(runs[1], 2, "diverged", None))
        hear(news(runs[2], 0, "failed", None))
        hear(news(runs[3], 3, "done", 1.0))
    # 10 s for one run and three to go; 14 s for two and two to go; …
    lines = file.getvalue().splitlines()
    assert [lines[0], lines[1], lines[3]] == [
        "1/4  none, seed 0: done, accuracy 12.3 %, about 30 s left",
        "2/4  batch, seed 0: diverged, accuracy not finite, about 14 s left",
        "4/4  batch, seed 1: done, accuracy 100.0 %, about 0 s left",
    ]
    assert re.fullmatch(r"3/4  none, seed 1: failed.*, about 6 s left", lines[2])
    assert len(lines) == 4


def test_an_error_is_said_in_its_own_unit(tmp_path: Path) -> None:
    results, (none, _) = planned(tmp_path, "seeds=1", recipe="bad-init")
    file = io.StringIO()
    with progress_display(Console(file=file), results) as hear:
        hear(news(none, 3, "done", 693.04))
    assert file.getvalue().startswith("1/2  none, seed 0: done, mean squared error 693, about ")
