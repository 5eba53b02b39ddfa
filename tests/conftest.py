"""Shared by every test."""

import os
import sys
from collections.abc import Callable, Iterator

import pytest

# Charts and runs must not depend on how wide the terminal of the tester is.
os.environ.setdefault("COLUMNS", "100")
# As many test processes as cores: two threads in each wait for one another, and small tensors gain nothing by them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

Called = tuple[int, str, str]  # exit code, what went to stdout, what went to stderr


# What was decided once for a shape, by constants that a test may have put others in the place of.
DECIDED = (("normlab.kernels.pick", "_pays_for"), ("normlab.kernels.cpu.batch_norm", "_plan"),
           ("normlab.kernels.cpu.rows", "_plan"), ("normlab.kernels.cpu.group_norm", "_plan"))  # fmt: skip


@pytest.fixture(autouse=True)
def decided_anew() -> Iterator[None]:
    yield
    for module, function in DECIDED:
        if module in sys.modules:
            getattr(sys.modules[module], function).cache_clear()


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
