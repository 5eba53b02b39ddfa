"""Files as users write them, for the tests of their own networks and data."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from normlab.lab import own_files


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Writes a file below the folder of the test; what importing it leaves behind is taken away again."""
    monkeypatch.setattr(own_files, "_folders", set())
    monkeypatch.setattr(own_files, "_versions", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)

    def make(code: str, name: str = "my.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return path

    yield make
    for name in set(sys.modules) - known:
        said = getattr(sys.modules[name], "__dict__", {})
        if str(tmp_path) in f"{said.get('__file__')} {list(said.get('__path__') or ())}":
            del sys.modules[name]
