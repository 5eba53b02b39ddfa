"""What the documents say runs, runs; what is made from the program is fresh."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from tests.lab.data_files import write_cifar

from normlab.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# the smallest form of each comparison, by the first word after `compare`
SMALL = ["epochs=1", "seeds=1", "train_samples=64"]
TINY = [*SMALL, "model.depth=1", "model.width=16"]
SHAPES = {
    "resnet": ["epochs=1", "seeds=1", "model.depth=8", "model.width=8", "batch=5"],
    "--model": ["epochs=1", "batch=5"],
}
MY = """
import torch
from torch import nn


def make_model():
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def batches():
    return list(torch.randn(4, 8, 4, generator=torch.Generator().manual_seed(0)))


def load():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return x[:20], y[:20], x[20:], y[20:]
"""


PAGES = {page: (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("layers.md", "tools.md")}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


COMMANDS = re.findall(r"^normlab [^#\n]*[^#\s]", "\n".join(blocks("console")), flags=re.MULTILINE)


def normlab(*words: str, cwd: Path) -> int:
    """Calls the program in this process, which saves the seconds that its libraries take to load; the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr("sys.argv", ["normlab", *words])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every file that the README names is there: a comparison, its runs, CIFAR-10, `my.py`."""
    folder = tmp_path_factory.mktemp("readme")
    normlab("compare", "--jobs", "1", "norm=none,batch", *TINY, cwd=folder)
    (made,) = (folder / "runs").iterdir()
    made = made.rename(folder / "runs" / "20261121-093000-deep-tanh")
    for norm in ("none", "batch"):
        (made / f"{norm}-seed0").symlink_to(next(made.glob(f"{norm}-seed0-*")))
    write_cifar(folder / "cifar-10-batches-bin", "cifar10", python=False)
    (folder / "my.py").write_text(MY)
    own: dict[str, Any] = {}
    exec(MY, own)  # noqa: S102  # our own text
    save_file(own["make_model"]().state_dict(), folder / "in.safetensors")
    return folder


def test_the_readme_has_its_examples() -> None:
    assert len(COMMANDS) == 20
    assert len(blocks("python")) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_runs(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    if words[0] in ("compare", "claims") and "--resume" not in words:
        changed = SHAPES.get(words[1] if len(words) > 1 else "", TINY)
        given = {word.partition("=")[0] for word in words}
        words += [word for word in changed if word.partition("=")[0] not in given] + ["--jobs", "1"]
    differs = words[0] == "diff"  # its two runs do, which is its exit code
    assert normlab(*words, cwd=place) == int(differs)
    assert capsys.readouterr().out


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_example_of_the_readme_runs(code: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("page", PAGES)
def test_every_python_example_of_a_page_runs(page: str, tmp_path: Path) -> None:
    """All of a page in one process, each from its own imports: loading torch takes longer than they do."""
    found = blocks("python", PAGES[page])
    assert found
    code = "\n".join(f"exec({each!r}, {{}})" for each in found)
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
