"""The rules of the house that no other tool checks."""

import re
import statistics
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_stay_small() -> None:
    sizes = {str(path.relative_to(ROOT)): lines(path) for path in SOURCES}
    assert not {path: size for path, size in sizes.items() if size > 400}
    assert statistics.median(sizes.values()) < 150


def test_there_is_no_drawer_for_everything() -> None:
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "common", "misc")]


def test_src_never_asserts() -> None:
    found = [
        f"{path.name}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.match(r"\s*assert\s", line)
    ]
    assert not found


def test_every_dependency_is_pinned() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = set(re.findall(r'^  "([a-z][a-z0-9-]*)[><=]', text, flags=re.MULTILINE))
    assert len(wanted) > 15
    assert not wanted - pinned
