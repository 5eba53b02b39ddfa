"""The tables of the page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.cases import Case
from benchmarks.interleaved import Timing
from benchmarks.performance.rows import WAYS, Measured, Way, geometric_mean, grouped, known
from benchmarks.performance.said import milliseconds, percent, ratio, size, table
from benchmarks.performance.targets import Figure

PEERS = ("in place", "compile", "oneDNN", "oneDNN blocked")


def figures(found: Iterable[Figure]) -> str:
    """Each figure beside its target."""
    lines = [(figure.what, figure.target, figure.measured or "—", figure.judged()) for figure in found]
    return table(("figure", "target", "measured", ""), lines, words=4)


def overview(rows: Sequence[Measured]) -> str:
    """A line for each group."""
    head = (
        "group", "shapes", "forward", "slowest shape", "forward + backward", "slowest shape", *PEERS, "memory limit",
    )  # fmt: skip
    lines = []
    for title, group in grouped(rows).items():
        cells = [title, str(len(group))]
        for way in WAYS:
            ratios = known(row.ratio(way) for row in group)
            cells += [ratio(geometric_mean(ratios)), ratio(min(ratios, default=None))]
        peers = [geometric_mean(known(row.ratio("both", peer) for row in group)) for peer in PEERS]
        limit = geometric_mean(known(row.limit("both") for row in group))
        lines.append([*cells, *map(ratio, peers), ratio(limit)])
    return table(head, lines)


def group(rows: Sequence[Measured]) -> str:
    """Every shape of one group, and the geometric mean of each ratio."""
    head = (
        "shape", "size", "kernel", "forward, ms", "eager ÷ ours", "ours ÷ clone",
        "forward + backward, ms", "eager ÷ ours", *(f"{peer} ÷ ours" for peer in PEERS),
        "streams", "of eager", "GB/s", "memory limit", "peak memory", "of eager",
    )  # fmt: skip
    lines = [_line(row) for row in rows]
    if len(rows) > 1:
        against: tuple[tuple[Way, str], ...] = (("both", "eager"), *(("both", peer) for peer in PEERS))
        means = [geometric_mean(known(row.ratio(way, name) for row in rows)) for way, name in against]
        forward = geometric_mean(known(row.ratio("forward") for row in rows))
        clones = geometric_mean(known(row.of_clone() for row in rows))
        limit = geometric_mean(known(row.limit("both") for row in rows))
        cells = ["geometric mean", "", "", "", ratio(forward), ratio(clones), "", *map(ratio, means)]
        lines.append([*cells, "", "", "", ratio(limit), "", ""])
    return table(head, lines)


def steps(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each network, each variant: time, and memory measured in three ways."""
    head = (
        "network", "variant", "step, ms", "stock ÷ it", "kept for backward", "of stock", "peak of the step", "of stock",
        "process at most", "of stock",
    )  # fmt: skip
    lines = []
    for row in rows:
        stock = _step(row, "stock")
        for variant in row["seconds"]:
            step = _step(row, variant)
            cells = [row["network"], variant, _spread(step["seconds"])]
            cells.append(ratio(stock["seconds"].median / step["seconds"].median))
            for what in ("kept", "peak", "resident"):
                known_too = step[what] and stock[what]
                cells += [size(step[what]), percent(step[what] / stock[what])] if known_too else ["", ""]
            lines.append(cells)
    return table(head, lines, words=2)


def first_calls(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each kernel: the first call without and with machine code on disk, and the second."""
    head = (
        "kernel", "nothing on disk: forward, s", "backward, s", "on disk: forward, s", "backward, s",
        "second call: forward, s", "backward, s",
    )  # fmt: skip
    order = [(disk, which) for disk in ("cold", "warm") for which in ("forward", "backward")]
    order += [("warm", "second forward"), ("warm", "second backward")]
    lines = [
        [Case.from_json(row["case"]).title(), *(f"{row[disk][which]:.3f}" for disk, which in order)] for row in rows
    ]
    return table(head, lines)


def _line(row: Measured) -> list[str]:
    ours = row.seconds["ours"]
    cells = [" × ".join(map(str, row.case.shape)), size(row.case.size), row.kernel]
    cells += [_spread(ours["forward"]), ratio(row.ratio("forward")), ratio(row.of_clone())]
    cells += [_spread(ours["both"]), ratio(row.ratio("both")), *(ratio(row.ratio("both", peer)) for peer in PEERS)]
    cells += [_streams(row, "ours"), _streams(row, "eager")]
    cells += [ratio(row.gigabytes("both")), ratio(row.limit("both"))]
    return [*cells, *(size(row.peaks[name]) for name in ("ours", "eager"))]


def _streams(row: Measured, variant: str) -> str:
    """Empty where the caches hide the memory."""
    return "" if row.limit("both") is None else ratio(row.streams(variant, "both"))


def _step(row: Mapping[str, Any], variant: str) -> dict[str, Any]:
    needed = row["bytes"][variant]
    resident = row.get("resident", {}).get(variant)
    return {"seconds": Timing(*row["seconds"][variant]), **needed, "resident": resident}


def _spread(timing: Timing) -> str:
    return f"{milliseconds(timing.median)} ({milliseconds(timing.low)}–{milliseconds(timing.high)})"
