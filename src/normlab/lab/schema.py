"""The form of every recorded line, checked when it is read."""

from typing import Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

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
    near_zero: float
    nonfinite: int


class MetricsLine(TypedDict):
    """One line of `metrics.jsonl`; see docs/records.md."""

    epoch: int
    step: int
    loss: BySetAndMode
    metric: BySetAndMode
    gradient_norm: ByLayer
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
    first: int
    counts: list[int]
    below: int
    above: int
    nonfinite: int


METRICS_LINE: TypeAdapter[MetricsLine] = TypeAdapter(MetricsLine)
HISTOGRAM_LINE: TypeAdapter[HistogramLine] = TypeAdapter(HistogramLine)
