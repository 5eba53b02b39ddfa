"""The page of all cases."""

from benchmarks.correctness import commits, folds, population
from benchmarks.correctness.row import Figure, Row

ROWS: tuple[Row, ...] = (*population.ROWS, *commits.ROWS, *folds.ROWS)

HEAD = """# Statistics: where the tools in use give wrong numbers

Each line is measured by `make statistics`, which writes this page, and is a test (`tests/test_correctness.py`): ours
must be at the truth, and the tool in use must not be. The number is that of the hazard in our catalogue; PyTorch is
2.13.0 on a CPU.

| hazard | case | tool in use | what is looked at | its figure | ours | our figure | truth |
| ---: | --- | --- | --- | ---: | --- | ---: | ---: |
"""


def page() -> str:
    """The table in Markdown, every figure measured now."""
    return HEAD + "".join(_line(row) for row in ROWS)


def said(figure: Figure) -> str:
    """A figure as it is written; what is within rounding of 0 says so.

    Example:
        >>> said(26.2612), said(3e-8), said("RuntimeError"), said(2.0), said(90000.4), said(0.00987)
        ('26.26', '< 1e-6', 'RuntimeError', '2', '90,000', '0.00987')
    """
    if isinstance(figure, str):
        return figure
    if 0 < abs(figure) < 1e-6:
        return "< 1e-6"
    if figure == int(figure) or abs(figure) >= 1e4:
        return f"{figure:,.0f}"
    return f"{figure:.4g}" if abs(figure) >= 0.1 else f"{figure:.3g}"


def _line(row: Row) -> str:
    found = row.measure()
    cells = (
        str(row.hazard), f"{row.name}: {row.case}", _code(row.stock), row.quantity, said(found.stock), _code(row.ours),
        said(found.ours), said(found.truth),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def _code(words: str) -> str:
    return words if " " in words else f"`{words}`"
