"""The targets of the work, and what the newest run says of each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.cases import Case
from benchmarks.performance.rows import LARGE, WAYS, Measured, Way, geometric_mean, known
from benchmarks.performance.said import percent, ratio

NEVER_UNDER = 0.95
# forward + backward against eager, geometric mean: of batch norm + ReLU on ResNet-50, and of the other norms in float32
RESNET = {
    ("float32", "contiguous"): 3.5,
    ("float32", "channels last"): 3.0,
    ("bfloat16", "contiguous"): 2.0,
    ("bfloat16", "channels last"): 2.0,
}
OTHER = {"layer": 1.3, "group": 1.3, "rms": 1.3}
COMPILED = 10.0
# network → its share of the activation memory that must go, and by how much the step must become faster
STEPS = {"DenseNet-121": (0.35, 1.2), "ResNet-50": (0.25, 1.1)}
LEAN_TIME, FIRST_CALL, CLONES = 1.05, 0.5, 1.25


@dataclass(frozen=True)
class Figure:
    """One line: what must be shown, the target, what was measured, whether that meets it (None: not measured)."""

    what: str
    target: str
    measured: str
    met: bool | None
    provisional: bool = False

    def judged(self) -> str:
        """
        Example:
            >>> Figure("speed", "≥ 2 ×", "2.1 ×", True, provisional=True).judged()
            'met, provisionally'
        """
        if self.met is None:
            return "not measured"
        return f"{'met' if self.met else 'not met'}{', provisionally' if self.provisional else ''}"


def goal(case: Case) -> float | None:
    """What the geometric mean of its group must reach, forward and backward together; None where nothing is asked."""
    if case.of == "ResNet-50" and case.after == "relu":
        return RESNET.get((case.dtype, case.layout))
    return OTHER.get(case.norm) if case.dtype == "float32" and case.of != "the lab" else None


def of_norms(rows: Sequence[Measured]) -> Iterator[Figure]:
    """The figures of single layers."""
    resnet = [row for row in rows if row.case.of == "ResNet-50" and row.case.after == "relu"]
    for (dtype, layout), target in RESNET.items():
        chosen = [row for row in resnet if row.case.dtype == dtype and row.case.layout == layout]
        yield _mean(f"batch norm + ReLU, ResNet-50, {layout}, {dtype}, against eager", chosen, target)
    yield _mean("batch norm + ReLU, ResNet-50, float32, against `torch.compile`", resnet, COMPILED, "compile")
    yield _clones([row for row in rows if row.case.after == "relu" and row.case.dtype == "float32"])
    for norm, name in (("layer", "layer norm"), ("group", "group norm"), ("rms", "RMS norm")):
        chosen = [row for row in rows if row.case.norm == norm and row.case.dtype == "float32"]
        asked = [row for row in chosen if goal(row.case) is not None]
        yield _mean(f"{name}, float32, against eager", asked, OTHER[norm])
        yield _worst(f"{name}, float32, its slowest shape against eager", chosen, "both")
    for way in WAYS:
        yield _worst("every shape of every table, the slowest against eager", rows, way)


def of_steps(rows: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """The figures of training steps."""
    by_name = {row["network"]: row for row in rows}
    for name, (share, target) in STEPS.items():
        row = by_name.get(name, {"seconds": {}, "bytes": {}})
        seconds = {variant: taken[1] for variant, taken in row["seconds"].items()}
        faster = seconds["stock"] / seconds["accelerated"] if "accelerated" in seconds else None
        yield _step(f"{name}, a training step, `accelerate_`d against stock", faster, target, row)
        peaks = {variant: needed["peak"] for variant, needed in row["bytes"].items()}
        less = 1 - peaks["lean"] / peaks["stock"] if "lean" in peaks else None
        measured, met = ("", None) if less is None else (percent(-less), less >= share)
        yield Figure(f"{name}, peak activation memory of a step, `lean` against stock", percent(-share), measured, met)
        for other, said in (("stock", "stock"), ("accelerated", "the same without")):
            slower = seconds["lean"] / seconds[other] if "lean" in seconds else None
            measured, met = ("", None) if slower is None else (f"{ratio(slower)} ×", slower <= LEAN_TIME)
            yield Figure(f"{name}, time of a step, `lean` against {said}", f"≤ {LEAN_TIME} ×", measured, met)


def _step(what: str, faster: float | None, target: float, row: Mapping[str, Any]) -> Figure:
    figure = _at_least(what, faster, target)
    if "bound" not in row:
        return figure
    stock = row["seconds"]["stock"][1]
    share, limit = percent(row["norms"] / stock), ratio(stock / row["bound"][1])
    said = f"{figure.measured} (norms, activations and adds are {share} of it; if they only move their bytes {limit} ×)"
    return replace(figure, measured=said)


def of_first_calls(rows: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """The figure of the first call: the slowest of all, forward or backward."""
    slowest = max((row["warm"][way] for row in rows for way in ("forward", "backward")), default=None)
    measured, met = ("", None) if slowest is None else (f"{slowest:.2f} s", slowest <= FIRST_CALL)
    yield Figure("first call of a kernel in a new process, machine code on disk", f"≤ {FIRST_CALL} s", measured, met)


def _mean(what: str, rows: Sequence[Measured], target: float, against: str = "eager") -> Figure:
    ratios = known(row.ratio("both", against) for row in rows)
    mean = geometric_mean(ratios)
    limit = geometric_mean(known(row.limit("both") for row in rows)) if against == "eager" else None
    figure = _at_least(f"{what}, forward + backward, geometric mean", mean, target)
    if mean is None:
        return figure
    shapes = "1 shape" if len(ratios) == 1 else f"{len(ratios)} shapes"
    memory = "" if limit is None else f"; memory limit {ratio(limit)} ×"
    again = all(_is_read_again(row) for row in rows)
    if limit is not None and again:
        twice = geometric_mean(known(row.limit("both", twice=True) for row in rows))
        memory += f", of two readings {ratio(twice)} ×"
    called = geometric_mean(known(row.limit("both", twice=again, called=True) for row in rows))
    if limit is not None and called is not None:
        memory += f", called from Python {ratio(called)} ×"
    return Figure(figure.what, figure.target, f"{figure.measured} ({shapes}{memory})", figure.met)


def _is_read_again(row: Measured) -> bool:
    """Whether a channel does not stay in the cache between statistics and output."""
    return row.case.layout == "channels last"


def _worst(what: str, rows: Sequence[Measured], way: Way) -> Figure:
    what, target = f"{what}, {'forward + backward' if way == 'both' else way}", f"≥ {NEVER_UNDER} ×"
    all_of_them = [
        (value, f"{' × '.join(map(str, row.case.shape))}, {row.case.title()}")
        for row in rows
        if (value := row.ratio(way)) is not None
    ]
    if not all_of_them:
        return Figure(what, target, "", None)
    value, which = min(all_of_them)
    under = sum(value < NEVER_UNDER for value, _ in all_of_them)
    return Figure(what, target, f"{ratio(value)} × ({which}); {under} of {len(all_of_them)} under", under == 0)


def _clones(rows: Sequence[Measured]) -> Figure:
    what, target = "training forward of batch norm + ReLU, tensors over 4 MB, against `clone()`", f"≤ {CLONES} ×"
    large = [row for row in rows if row.case.size > LARGE]
    values = known(row.of_clone() for row in large)
    mean = geometric_mean(values)
    if mean is None:
        return Figure(what, target, "", None)
    measured = f"{ratio(mean)} × geometric mean, {ratio(max(values))} × the slowest of {len(values)}"
    called = known(row.limit("forward", twice=_is_read_again(row), called=True, against="clone") for row in large)
    if called:
        beyond = sum(1 / limit > CLONES for limit in called)
        measured += f"; called from Python at the speed of `copy_` {beyond} could not be under {CLONES}"
    return Figure(what, target, measured, max(values) <= CLONES)


def _at_least(what: str, value: float | None, target: float) -> Figure:
    if value is None:
        return Figure(what, f"≥ {target:g} ×", "", None)
    return Figure(what, f"≥ {target:g} ×", f"{ratio(value)} ×", value >= target)
