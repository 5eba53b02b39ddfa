"""How far the running statistics of batch norm are from those of a batch."""

from normlab.lab.load import Results
from normlab.lab.report.figure import Figure
from normlab.lab.report.gradients import stacked
from normlab.lab.report.matrices import Quantity
from normlab.lab.report.recorded import lines

TITLE = "Running statistics against the batch"
MEAN = Quantity(
    "gap_mean",
    "Gap of the mean, in running standard deviations",
    lambda line: {layer: gap["mean"] for layer, gap in line["statistics_gap"].items()},
)
VAR = Quantity(
    "gap_var",
    "Gap of the variance, as |ln(batch / running)|",
    lambda line: {layer: gap["var"] for layer, gap in line["statistics_gap"].items()},
)


def gap(results: Results) -> Figure:
    """One matrix for the mean, one for the variance, for the variants with batch norm."""
    with_running = [
        variant
        for variant in results.variants
        if any(line["statistics_gap"] for run in results.of(variant) for line in lines(run))
    ]
    if not with_running:
        why = "Only batch norm keeps running statistics, and no measured variant has it: there is no gap to draw."
        return Figure("gap", TITLE, None, [why])
    caption = [
        "Root mean square over channels, median over seeds. The wider the gap, the more a network in eval mode differs "
        "from the one that was trained. At epoch 0 the running statistics are untouched (mean 0, variance 1), so the "
        "gap there says only that they have not warmed up."
    ]
    return stacked(results, "gap", TITLE, (MEAN, VAR), with_running, caption)
