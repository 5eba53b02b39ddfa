"""From a row of the data of a panel to its cells, inside the picture: the page carries whole numbers only."""

from typing import TypeVar

import altair as alt

from normlab.lab.report.rebin import CELLS
from normlab.lab.report.strips import SHARE

Panel = TypeVar("Panel", bound=alt.Chart)


def cells(panel: Panel, column: int) -> Panel:
    """A row for every cell: its ends `y0` and `y1` on the axis `r{column}`, and the share of the values in it."""
    cell = f"(r{column}[1] - r{column}[0]) / {CELLS}"
    return (
        panel.transform_flatten(["d"], ["share"])
        .transform_window(i="row_number()", groupby=["e"])
        .transform_calculate(
            y0=f"r{column}[0] + (datum.o + datum.i - 1) * {cell}",
            y1=f"r{column}[0] + (datum.o + datum.i) * {cell}",
            share=f"datum.share / {SHARE}",
        )
    )


def value_scale(column: int) -> alt.Scale:
    """The axis of a column, over the range of the chosen place."""
    return alt.Scale(domain=alt.expr(f"r{column}"), nice=False, zero=False)
