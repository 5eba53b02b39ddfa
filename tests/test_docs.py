"""What the documents say runs, runs; what is made from the program is fresh."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = ["epochs=1", "seeds=1", "model.depth=1", "model.width=16", "train_samples=64"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = re.findall(r"^normlab [^#\n]*[^#\s]", "\n".join(blocks("console")), flags=re.MULTILINE)


def normlab(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "normlab", *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    normlab("compare", "--jobs", "1", "norm=none,batch", *TINY, cwd=folder)
    (made,) = (folder / "runs").iterdir()
    return made


def test_the_readme_has_its_examples() -> None:
    assert len(COMMANDS) == 10
    assert len(blocks("python")) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(command: str, comparison: Path, tmp_path: Path) -> None:
    words = shlex.split(command)[1:]
    if words[0] == "compare" and "--resume" not in words:
        words += [*TINY, "--jobs", "1"]
    run = next(comparison.glob("batch-*"))
    places = {"runs/20261121-093000-deep-tanh": comparison, "runs/20261121-093000-deep-tanh/batch-seed0": run}
    words = [str(places.get(word, word)) for word in words]
    assert normlab(*words, cwd=tmp_path)


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_example_of_the_readme_runs(code: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_runs(example: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", str(example), str(tmp_path)], check=True)


def test_the_page_of_commands_is_fresh(tmp_path: Path) -> None:
    made = tmp_path / "cli.md"
    words = ["normlab.cli.app", "utils", "docs", "--name", "normlab", "--output", str(made)]
    subprocess.run([sys.executable, "-m", "typer", *words], check=True, capture_output=True)
    assert made.read_text() == (ROOT / "docs" / "cli.md").read_text(), "run `make docs`"


def test_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [target for target in targets if not target.startswith("http") and not (ROOT / target).exists()]
    assert not missing
