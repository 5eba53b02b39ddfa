"""The form of every recorded line, checked when it is read."""

from typing import Annotated, Literal, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from normlab.lab.grid import BINS

Number = float | None  # None stands for what is not finite
ByLayer = dict[str, Number]
BySetAndMode = dict[Literal["train", "test"], dict[Literal["train", "eval"], Number]]


class SiteLine(TypedDict):
    """Moments and shares at one place."""

    layer: str
    site: Literal["pre_norm", "pre_activation", "activation"]
    mode: Literal["train", "eval", "both"]
    mean: Number
    std: Number
    saturated: Number
    near_zero: Number
    nonfinite: int


class MetricsLine(TypedDict):
    """One line of `metrics.jsonl`; see docs/records.md."""

    epoch: int
    step: int
    loss: BySetAndMode
    metric: BySetAndMode
    batch_loss: NotRequired[Number]
    gradient_norm: ByLayer
    bias_gradient_norm: NotRequired[ByLayer]
    statistics_gap: dict[str, dict[Literal["mean", "var"], Number]]
    sites: list[SiteLine]
    prediction: NotRequired[list[Number]]
    update_ratio: ByLayer | None
    seconds: dict[Literal["train", "steps", "measure"], float]


class HistogramLine(TypedDict):
    """One line of `histograms.jsonl`; see docs/records.md."""

    epoch: int
    layer: str
    site: Literal["pre_norm", "pre_activation", "activation"]
    mode: Literal["train", "eval", "both"]
    first: Annotated[int, Field(ge=0)]
    counts: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=BINS)]
    below: int
    above: int
    nonfinite: int


def _on_the_grid(line: HistogramLine) -> HistogramLine:
    if line["first"] + len(line["counts"]) > BINS:
        raise ValueError(f"counts go on to bin {line['first'] + len(line['counts'])} of {BINS}")
    return line


METRICS_LINE: TypeAdapter[MetricsLine] = TypeAdapter(MetricsLine)
HISTOGRAM_LINE: TypeAdapter[HistogramLine] = TypeAdapter(Annotated[HistogramLine, AfterValidator(_on_the_grid)])
