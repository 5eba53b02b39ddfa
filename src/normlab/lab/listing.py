"""What lies in a folder of comparisons, from the small files alone: no line of measurements is read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from normlab import errors
from normlab.lab.load import load
from normlab.lab.record import RECIPE, State


@dataclass(frozen=True)
class Listed:
    """One comparison. `damage` says why it cannot be read; the rest is then empty."""

    folder: Path
    recipe: str = ""
    variants: int = 0
    seeds: int = 0
    states: dict[str, int] | None = None
    damage: str = ""

    @property
    def text(self) -> str:
        """How its runs stand.

        Example:
            >>> Listed(Path("a"), states={"done": 14, "diverged": 1}).text
            '14 done, 1 diverged'
        """
        return self.damage or ", ".join(f"{count} {state}" for state, count in (self.states or {}).items())


def listed(out: Path) -> list[Listed]:
    """Every comparison in that folder, the oldest first.

    Raises:
        RecordError: there is no such folder.
    """
    if not out.is_dir():
        problem = errors.Problem("there is no such folder.", fix="`normlab compare` makes `runs`.")
        raise errors.RecordError(errors.message(str(out), problem))
    return [_listed(folder) for folder in sorted(out.iterdir()) if (folder / RECIPE).exists()]


def _listed(folder: Path) -> Listed:
    try:
        results = load(folder)
    except errors.RecordError as error:
        return Listed(folder, damage=str(error).partition("\n")[0])
    order: tuple[State, ...] = ("done", "diverged", "failed", "interrupted", "running", "planned")
    counts = Counter(run.status.state for run in results.runs)
    states: dict[str, int] = {state: counts[state] for state in order if counts[state]}
    return Listed(folder, results.recipe.name, len(results.variants), len(results.seeds), states)
