"""Units that say nothing: saturated, or near zero."""

from collections.abc import Callable, Mapping
from typing import Any

from normlab.lab.load import Results
from normlab.lab.report.figure import Figure
from normlab.lab.report.gradients import stacked
from normlab.lab.report.matrices import Quantity

SATURATED = {
    "tanh": "beyond ±0.99",
    "sigmoid": "outside 0.01 … 0.99",
    "relu": "at 0, where no gradient passes",
    "leaky_relu": "never, as a gradient passes everywhere",
}
TITLE = "Saturated and silent units"


def activity(results: Results) -> Figure:
    """Share of the activations that are saturated, and share near zero."""
    kinds = list(dict.fromkeys(run.config.model.activation for run in results.runs))
    limits = "; ".join(f"{kind}: {SATURATED[kind]}" for kind in kinds)
    quantities = (
        Quantity("saturated", "Share saturated", _share("saturated"), log=False),
        Quantity("near_zero", "Share near zero", _share("near_zero"), log=False),
    )
    caption = [
        f"Share of the values after the activation, on the probe batch in train mode, median over seeds. "
        f"Saturated: {limits}. Near zero: smaller than 0.01."
    ]
    if all(run.config.model.kind == "own" for run in results.runs):
        why = "In a network of yours what enters and what leaves the norms is recorded, not the activations."
        return Figure("activity", TITLE, None, [why])
    return stacked(results, "activity", TITLE, quantities, results.variants, caption)


def _share(key: str) -> Callable[[Mapping[str, Any]], Mapping[str, float | None]]:
    def read(line: Mapping[str, Any]) -> Mapping[str, float | None]:
        return {
            site["layer"]: site[key]
            for site in line["sites"]
            if site["site"] == "activation" and site["mode"] == "train" and site[key] is not None
        }

    return read
