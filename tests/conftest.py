"""Shared by every test."""

import os
from collections.abc import Callable

import pytest

# Charts and runs must not depend on how wide the terminal of the tester is.
os.environ.setdefault("COLUMNS", "100")
# As many test processes as cores: two threads in each wait for one another, and small tensors gain nothing by them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Called = tuple[int, str, str]  # exit code, what went to stdout, what went to stderr


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """Calls `normlab` with these words, in this process."""

    def call(*words: str) -> Called:
        from normlab.cli import main

        monkeypatch.setattr("sys.argv", ["normlab", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call
