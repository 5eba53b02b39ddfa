"""A chart with the words that it needs."""

from collections.abc import Sequence
from dataclasses import dataclass

from normlab.lab.report.style import Spec


@dataclass(frozen=True)
class Figure:
    """One section of the report.

    `spec` is its Vega-Lite, None where there is nothing to draw; `caption` then says why. `shown` says what a still
    picture of the chart shows, where the page has a slider or a choice.
    """

    name: str
    title: str
    spec: Spec | None
    caption: Sequence[str]
    shown: str = ""
