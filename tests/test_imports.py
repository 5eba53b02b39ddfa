"""What a quick command may not load, seen by a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from normlab.lab import RECIPES, create

HEAVY = ("torch", "altair", "sklearn", "distributed", "vl_convert")


def loaded(code: str, *heavy: str) -> list[str]:
    """Which of the heavy modules a fresh interpreter holds after running the code."""
    tail = f"\nimport sys\nprint('LOADED', *[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return done.stdout.rpartition("LOADED")[2].split()


def command(*words: str) -> str:
    return f"""
import sys
from normlab.cli import main
sys.argv = ["normlab", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_the_check_sees_what_is_loaded() -> None:
    assert loaded("import numpy", "numpy", "torch") == ["numpy"]


def test_the_package_is_light() -> None:
    assert loaded("import normlab; normlab.__version__, dir(normlab)", *HEAVY, "numpy", "pydantic", "rich") == []


@pytest.mark.parametrize("words", [("--help",), ("compare", "--help"), ("recipes",), ("--version",)], ids=" ".join)
def test_a_quick_command_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert loaded(command(*words), *HEAVY) == []


def test_records_are_read_without_torch(tmp_path: Path) -> None:
    folder = create(RECIPES["deep-tanh"], tmp_path)
    code = f"from normlab.lab import load, summarize; summarize(load({str(folder)!r}))"
    assert loaded(code, *HEAVY) == []


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    import normlab

    with pytest.raises(AttributeError) as raised:
        _ = normlab.audit
    assert str(raised.value) == "module 'normlab' has no attribute 'audit'"
    assert dir(normlab) == sorted(normlab.__all__)
    assert all(getattr(normlab, name) is not None for name in normlab.__all__)
