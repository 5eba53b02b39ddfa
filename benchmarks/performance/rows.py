"""What follows from the seconds of one case: ratios, streams, and the limit that memory sets."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from benchmarks.cases import READ_AGAIN, Case
from benchmarks.interleaved import Timing

Way = Literal["forward", "both"]
WAYS: tuple[Way, ...] = ("forward", "both")
LARGE = 4e6  # bytes: above, `copy_` shows the speed of the memory behind the caches of a core


@dataclass(frozen=True)
class Measured:
    """A row of `norms.jsonl`."""

    case: Case
    seconds: dict[str, dict[str, Timing]]
    peaks: dict[str, int]
    kernel: str  # whose it is that serves our layer

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        seconds = {name: {way: Timing(*taken) for way, taken in ways.items()} for name, ways in row["seconds"].items()}
        peaks = {name: needed["peak"] for name, needed in row["bytes"].items()}
        return cls(Case.from_json(row["case"]), seconds, peaks, row["kernel"])

    def median(self, variant: str, way: Way) -> float | None:
        timing = self.seconds.get(variant, {}).get(way)
        return None if timing is None else timing.median

    def ratio(self, way: Way, against: str = "eager") -> float | None:
        """How many times longer the other one takes than ours."""
        return _over(self.median(against, way), self.median("ours", way))

    def of_clone(self) -> float | None:
        """How many `clone`s of the tensor our forward takes."""
        return _over(self.median("ours", "forward"), self.median("clone", "forward"))

    def streams(self, variant: str, way: Way) -> float | None:
        """Its time in full reads or writes of the tensor, of which `copy_` does two."""
        return _over(self.median(variant, way), self._stream())

    def limit(self, way: Way, *, twice: bool = False, called: bool = False, against: str = "eager") -> float | None:
        """The ratio against another of what moves the least streams as fast as `copy_`.

        None where caches hide the memory.

        Args:
            way: which of its times.
            twice: and reads all again.
            called: and costs what a call from Python does.
            against: the other.
        """
        stream, call = self._stream(), self.median("call", way) if called else 0.0
        if stream is None or call is None or self.case.size <= LARGE:
            return None
        streams = self.case.least_streams[way] + READ_AGAIN[way] * twice
        return _over(self.median(against, way), streams * stream + call)

    def gigabytes(self, way: Way) -> float:
        """Of the least streams, a second, in units of 10⁹ bytes."""
        return self.case.least_streams[way] * self.case.size / 1e9 / self.seconds["ours"][way].median

    def _stream(self) -> float | None:
        copied = self.median("copy", "forward")
        return None if copied is None else copied / 2


def grouped(rows: Iterable[Measured]) -> dict[str, list[Measured]]:
    """The rows by the group that they belong to, in order."""
    found: dict[str, list[Measured]] = {}
    for row in rows:
        found.setdefault(row.case.title(), []).append(row)
    return found


def known(values: Iterable[float | None]) -> list[float]:
    """Without those that were not measured."""
    return [value for value in values if value is not None]


def geometric_mean(values: Sequence[float]) -> float | None:
    """The n-th root of the product; None of nothing.

    Example:
        >>> geometric_mean([1.0, 4.0, 2.0]), geometric_mean([])
        (2.0, None)
    """
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b
