"""How strong the gradient is in every layer, and how fast the weights move."""

from collections.abc import Sequence

import altair as alt

from normlab.lab.load import Results
from normlab.lab.report import style
from normlab.lab.report.figure import Figure
from normlab.lab.report.matrices import Quantity, matrix

GRADIENT = Quantity("gradient", "Gradient norm of the weights", lambda line: line["gradient_norm"])
UPDATE = Quantity(
    "update",
    "Update-to-weight ratio of the last step of an epoch",
    lambda line: line["update_ratio"] or {},
    middle=1e-3,
)


def gradients(results: Results) -> Figure:
    """Gradient norm and update ratio."""
    caption = [
        "Median over seeds. Gradient: L2 norm of the gradient of the training loss with respect to the weights of a "
        "layer, on the probe batch. Update ratio: L2 norm of the change of the weights in one step, divided by that "
        "of the weights; as a rule of thumb (Karpathy) about 0.001 is healthy, much less hardly learns, much more is "
        "unstable. Values beyond a colour bar, zeros included, take its last colour.",
    ]
    return stacked(results, "gradients", "Gradients and updates", (GRADIENT, UPDATE), results.variants, caption)


def stacked(
    results: Results,
    name: str,
    title: str,
    quantities: Sequence[Quantity],
    variants: Sequence[str],
    caption: Sequence[str],
) -> Figure:
    """Matrices one above the other, each with its own colour bar."""
    drawn = [found for quantity in quantities if (found := matrix(results, quantity, variants)) is not None]
    if not drawn:
        return Figure(name, title, None, ["No run has been measured yet."])
    datasets = {key: rows for _, each in drawn for key, rows in each.items()}
    chart = alt.vconcat(*[chart for chart, _ in drawn], spacing=34).resolve_scale(color="independent")
    return Figure(name, title, style.finished(chart, datasets), caption)
