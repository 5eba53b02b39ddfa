"""How strong the gradient is in every layer, and how fast the weights move."""

from collections.abc import Mapping, Sequence

import altair as alt

from normlab.lab.load import Results
from normlab.lab.report import style
from normlab.lab.report.figure import Figure
from normlab.lab.report.matrices import Quantity, matrix

GRADIENT = Quantity("gradient", "Gradient norm of the weights", lambda line: line["gradient_norm"])
BIAS = Quantity(
    "bias", "Gradient norm of the bias in front of a norm", lambda line: _hidden(line.get("bias_gradient_norm", {}))
)
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
    quantities: tuple[Quantity, ...] = (GRADIENT, UPDATE)
    if "model.bias" in results.recipe.axes:
        quantities = (GRADIENT, BIAS, UPDATE)
        caption.append(
            "A bias in front of batch norm is taken away again with the mean, so its gradient is zero but for rounding."
        )
    return stacked(results, "gradients", "Gradients and updates", quantities, results.variants, caption)


def _hidden(by_layer: Mapping[str, float | None]) -> Mapping[str, float | None]:
    """All but the output layer, which no norm follows."""
    return {layer: value for layer, value in by_layer.items() if layer != "output"}


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
