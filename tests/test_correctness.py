"""Each case of docs/statistics.md: ours is right, and the tool in use is not."""

from pathlib import Path

import pytest
from benchmarks.correctness.row import Row, near
from benchmarks.correctness.table import ROWS, said

ROOT = Path(__file__).parents[1]
WITHIN = 2e-6  # of outputs in float32, where the truth is no error at all


PAGE = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore:.*No device id is provided:UserWarning")
def test_ours_is_right_and_the_tool_in_use_is_not(row: Row) -> None:
    found = row.measure()
    tolerance = max(row.tolerance, WITHIN) if found.truth == 0 else row.tolerance
    assert near(found.ours, found.truth, tolerance), found
    assert not near(found.stock, found.truth, max(10 * tolerance, 1e-3)), found
    (line,) = [line for line in PAGE.splitlines() if f"| {row.name}: " in line]
    assert line.endswith(f"| {said(found.truth)} |")


def test_the_page_has_every_case_once() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")][2:]
    assert [line.split("|")[2].split(":")[0].strip() for line in lines] == [row.name for row in ROWS]
    assert len({row.name for row in ROWS}) == len(ROWS) >= 17
