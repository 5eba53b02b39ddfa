"""Runs of a benchmark in its file: where it was made, its rows, and that it came to its end."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine


@dataclass(frozen=True)
class Run:
    """One run that came to its end."""

    name: str  # when it began
    where: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    seconds: float
    others: float | None  # share of the cores that somebody else had


class Writer:
    """Appends a run to `FILE.jsonl`: where it is made, its rows, its end."""

    def __init__(self, benchmark: str, tests: str, *, quick: bool) -> None:
        self.path = machine.RESULTS / f"{benchmark}.jsonl"
        self.name = machine.now()
        self.began, self.worked = time.perf_counter(), machine.worked()
        self._line({"where": machine.where() | {"tests": tests, "quick": quick}})

    def row(self, figures: dict[str, Any]) -> None:
        self._line({"row": rounded(figures)})

    def end(self) -> None:
        seconds = time.perf_counter() - self.began
        others = machine.others(self.worked, seconds)
        self._line({"ended": machine.now(), "seconds": round(seconds, 1), "others": others})
        if others is not None and others > machine.BUSY:
            print(f"\nothers had {others:.0%} of the cores meanwhile: measure again when the machine is quiet")

    def _line(self, content: dict[str, Any]) -> None:
        machine.write(self.path, {"run": self.name} | content)


def newest(path: Path) -> Run | None:
    """The last full run in the file that came to its end; the last quick one where there is none; or None."""
    if not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    places = {line["run"]: line["where"] for line in lines if "where" in line}
    ends = [line for line in lines if "ended" in line]
    if not ends:
        return None
    end = sorted(ends, key=lambda end: not places[end["run"]]["quick"])[-1]  # stable: full ones behind
    rows = tuple(line["row"] for line in lines if line["run"] == end["run"] and "row" in line)
    return Run(end["run"], places[end["run"]], rows, end["seconds"], end["others"])


def rounded(value: Any) -> Any:
    """The same with every float of four digits: more is noise, and fills the file.

    Example:
        >>> rounded({"a": [0.000123456, 7], "b": "text"})
        {'a': [0.0001235, 7], 'b': 'text'}
    """
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(inside) for key, inside in value.items()}
    return [rounded(inside) for inside in value] if isinstance(value, list | tuple) else value
