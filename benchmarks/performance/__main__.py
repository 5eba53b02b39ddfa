"""Writes docs/performance.md and docs/performance.svg from the newest results: python -m benchmarks.performance"""

import sys
from pathlib import Path

from benchmarks.machine import RESULTS, ROOT
from benchmarks.performance.chart import svg
from benchmarks.performance.page import BENCHMARKS, doubts, page
from benchmarks.performance.rows import Measured
from benchmarks.runs import Run, newest

DOCS = ROOT / "docs"


def runs(folder: Path = RESULTS) -> dict[str, Run]:
    """The newest run of each benchmark that has one."""
    found = {name: newest(folder / f"{name}.jsonl") for name in BENCHMARKS}
    return {name: run for name, run in found.items() if run is not None}


def write(results: Path = RESULTS, docs: Path = DOCS) -> None:
    """The page and its picture."""
    made = runs(results)
    (docs / "performance.md").write_text(page(made), encoding="utf-8")
    if "norms" in made:
        where = made["norms"].where
        words = f"{where['machine']}, {where['threads']} threads, torch {where['torch']}, {made['norms'].name[:10]}"
        words += ". Provisional: see the page." if doubts(made["norms"]) else ""
        rows = [Measured.from_json(row) for row in made["norms"].rows]
        (docs / "performance.svg").write_text(svg(rows, words), encoding="utf-8")
    sys.stdout.write(f"wrote {docs / 'performance.md'}\n")


if __name__ == "__main__":
    write()
