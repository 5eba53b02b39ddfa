"""One small finished comparison, made once, and ways to make others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from normlab.lab import RECIPES, Recipe, Results, Run, compare, load, with_words

SMALL = ("seeds=2", "epochs=2", "model.depth=2", "model.width=8", "norm=none,batch", "probe=16")


@pytest.fixture(scope="session")
def small() -> Callable[..., Recipe]:
    """The recipe `deep-tanh` made small, with more words; or another recipe as the words say."""

    def make(*words: str, recipe: str = "deep-tanh") -> Recipe:
        return with_words(RECIPES[recipe], [*(SMALL if recipe == "deep-tanh" else ()), *words])

    return make


@pytest.fixture(scope="session")
def finished(small: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two variants × two seeds, two epochs; nobody may write into its folder."""
    return compare(small(), tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copied(finished: Results, tmp_path: Path) -> Results:
    """A copy of the finished comparison, to be damaged."""
    return load(shutil.copytree(finished.folder, tmp_path / "copied"))


def _lines(run: Run) -> list[Any]:
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


def _recorded(results: Results) -> dict[str, tuple[Any, ...]]:
    return {
        run.folder.name: (
            (run.folder / "status.json").read_bytes(),
            (run.folder / "config.toml").read_bytes(),
            _lines(run),
            (run.folder / "histograms.jsonl").read_bytes(),
            (run.folder / "weights.safetensors").read_bytes(),
        )
        for run in results.runs
    }


@pytest.fixture(scope="session")
def recorded() -> Callable[[Results], dict[str, tuple[Any, ...]]]:
    """Every byte that each run recorded, less the times: what must be equal when the same is run twice."""
    return _recorded
