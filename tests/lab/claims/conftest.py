"""Records made up in memory: a comparison of any recipe whose numbers a function of the config gives."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from normlab.lab.config import RunConfig
from normlab.lab.load import Results, Run
from normlab.lab.recipe import planned_runs, with_words
from normlab.lab.recipes import RECIPES
from normlab.lab.record import State, Status

Line = dict[str, Any]
Lines = Callable[[RunConfig], Sequence[Line]]
MakeUp = Callable[..., Results]


def lines(test: Sequence[float | None], train: float | None = 0.5, **more: Any) -> list[Line]:
    """One line an epoch, with this test metric in each; the other keys are the same in all."""
    return [
        {"epoch": epoch, "metric": {"test": {"eval": value}, "train": {"eval": train}}} | more
        for epoch, value in enumerate(test)
    ]


@pytest.fixture
def lines_of() -> Callable[..., list[Line]]:
    return lines


@pytest.fixture
def made_up() -> MakeUp:
    """`made_up(recipe, words, records, state=…)`: a run's lines are `records(config)`, its state `state(config)`."""

    def make(
        recipe: str,
        words: Sequence[str],
        records: Lines,
        state: Callable[[RunConfig], State] = lambda config: "done",
    ) -> Results:
        chosen = with_words(RECIPES[recipe], list(words))
        runs = []
        for planned in planned_runs(chosen):
            config = planned.config
            found = tuple(records(config))
            status = Status(state(config), len(found) - 1, config.epochs)
            run = Run(Path(recipe) / planned.folder, planned.variant, config, status)
            run.__dict__["metrics"] = found
            run.__dict__["environment"] = ENVIRONMENT
            runs.append(run)
        return Results(Path(f"20261121-093000-{recipe}"), chosen, tuple(runs))

    return make


ENVIRONMENT: Mapping[str, Any] = {
    "normlab": "0.1",
    "commit": "abc",
    "packages": {"torch": "2"},
    "python": "3.11",
    "processor": "a <b> processor",
}
