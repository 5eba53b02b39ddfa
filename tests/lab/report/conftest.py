"""Records to draw: a real regression, and made-up comparisons of any size and any ending."""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normlab.lab.compare import compare
from normlab.lab.config import RunConfig
from normlab.lab.grid import EDGES
from normlab.lab.load import Results, load
from normlab.lab.recipe import Recipe, planned_runs, with_words
from normlab.lab.recipes import RECIPES
from normlab.lab.record import State, Status, append_lines, begin, write_status

MakeUp = Callable[..., Results]


@pytest.fixture(scope="session")
def regression(small: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Really trained: the regression, two layers, two epochs; nobody may write into its folder."""
    words = ["model.depth=2", "epochs=2", "seeds=2"]
    return compare(small(*words, recipe="bad-init"), tmp_path_factory.mktemp("regression"))


@pytest.fixture
def made_up(tmp_path: Path) -> MakeUp:
    """Writes records without training: `made_up(words, states=…, name=…, question=…)`."""

    def make(
        *words: str,
        recipe: str = "deep-tanh",
        states: Mapping[str, State] | None = None,
        reason: str = "",
        **changes: Any,
    ) -> Results:
        chosen = with_words(RECIPES[recipe], list(words)).model_copy(update=changes)
        folder = tmp_path / "made-up"
        folder.mkdir()
        (folder / "recipe.toml").write_text(chosen.to_toml())
        for planned in planned_runs(chosen):
            state = (states or {}).get(planned.variant, "done")
            if state != "planned":
                _pretend(folder / planned.folder, planned.config, state, reason)
        return load(folder)

    return make


def _pretend(folder: Path, config: RunConfig, state: State, reason: str) -> None:
    begin(folder, config, {"normlab": "0", "packages": {"torch": "2"}, "threads": 1, "data_sha256": "00"})
    last = {"done": config.epochs, "diverged": config.epochs // 2}.get(state, 1)
    for epoch in range(last + 1):
        bad = state == "diverged" and epoch == last
        append_lines(folder / "histograms.jsonl", _histogram_lines(config, epoch, bad))
        append_lines(folder / "metrics.jsonl", [_metrics_line(config, epoch, bad)])
    write_status(folder, Status(state, last, config.epochs, reason, "w", "o"))


def _places(config: RunConfig) -> list[tuple[str, str, str]]:
    kinds = ["pre_activation", "activation"] if config.norm == "none" else ["pre_norm", "pre_activation", "activation"]
    layers = [str(layer) for layer in range(1, config.model.depth + 1)]
    return [(layer, kind, mode) for layer in layers for kind in kinds for mode in ("train", "eval")]


def _histogram_lines(config: RunConfig, epoch: int, bad: bool) -> list[dict[str, Any]]:
    noise = np.random.default_rng([epoch, config.seed])
    lines = []
    for layer, site, mode in _places(config):
        std = 1000.0 if bad else 1.0 + 0.1 * epoch
        counts = noise.poisson(_expected(std))
        counts[:100] *= bad  # a real batch has no tail that thin
        counts[156:] *= bad
        occupied = np.flatnonzero(counts)
        first, end = int(occupied[0]), int(occupied[-1]) + 1
        lines.append(
            {"epoch": epoch, "layer": layer, "site": site, "mode": mode, "first": first}
            | {"counts": counts[first:end].tolist(), "below": 0, "above": 0, "nonfinite": 7 if bad else 0}
        )
    return lines


@functools.cache
def _expected(std: float) -> np.ndarray:
    below = [0.5 * (1 + math.erf(edge / std / math.sqrt(2))) for edge in EDGES]
    return 4096 * np.diff(below)


def _metrics_line(config: RunConfig, epoch: int, bad: bool) -> dict[str, Any]:
    value = None if bad else 2.0 * 0.7**epoch + 0.01 * (config.seed + 1)
    score = None if bad else 1 - 0.9 * 0.7**epoch
    both = {"train": value, "eval": value}
    scores = {"train": score, "eval": score}
    layers = [*map(str, range(1, config.model.depth + 1)), "output"]
    sites = [
        {"layer": layer, "site": site, "mode": mode, "mean": None if bad else 0.0, "std": None if bad else 1.0}
        | {"saturated": 0.1 if site == "activation" else None, "near_zero": 0.01, "nonfinite": 7 if bad else 0}
        for layer, site, mode in _places(config)
    ]
    gap = {layer: {"mean": 0.1, "var": 0.2} for layer in layers[:-1]} if config.norm == "batch" else {}
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "loss": {"train": both, "test": both},
        "metric": {"train": scores, "test": scores},
        "gradient_norm": dict.fromkeys(layers, None if bad else 0.1),
        "statistics_gap": gap,
        "sites": sites,
        "update_ratio": dict.fromkeys(layers, None if bad else 1e-3) if epoch else None,
        "seconds": {"train": 0.1, "steps": 10 if epoch else 0, "measure": 0.01},
    }
