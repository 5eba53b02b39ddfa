"""Every norm of `cases.py`: ours against eager, compiled, oneDNN and plain copies, in turns.

    python -m benchmarks.bench_norms [--quick] [--seconds 120] [--compile none] [--only "group norm"]

Of each case the forward in train mode, and forward and backward together with a random gradient from above.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

from benchmarks import gate
from benchmarks.cases import Case, plan
from benchmarks.interleaved import Call, interleaved
from benchmarks.memory import allocated
from benchmarks.runs import Writer
from benchmarks.variants import kernel, variants

SECONDS = {False: 120.0, True: 15.0}  # on rounds; by whether it must be quick. Large tensors take their least rounds
Tried = Mapping[str, Mapping[str, Call]]  # variant → direction → call


def main(words: Sequence[str] | None = None) -> None:
    parser = options(__doc__, SECONDS)
    parser.add_argument("--compile", choices=("none", "all"), help="all that have peers, seconds each; none if --quick")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="cases with this in their title; results are not kept"
    )
    chosen = parser.parse_args(words)
    compiled = (chosen.compile or ("none" if chosen.quick else "all")) == "all"
    cases = [case for case in plan(chosen.quick) if chosen.only in case.title()]
    seconds = SECONDS[chosen.quick] if chosen.seconds is None else chosen.seconds
    measure(
        cases, seconds, compiled, gate.after_tests(skip=chosen.without_tests), quick=chosen.quick, keep=not chosen.only
    )


def options(description: str | None, seconds: Mapping[bool, float]) -> argparse.ArgumentParser:
    """What every benchmark of this kind can be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few cases, a few rounds")
    if seconds:
        words = f"to be spent on rounds: {seconds[False]:g}, or {seconds[True]:g} if --quick"
        parser.add_argument("--seconds", type=float, help=words)
    parser.add_argument("--without-tests", action="store_true", help="measure untested code; the results say so")
    return parser


def measure(
    cases: Sequence[Case], seconds: float, compiled: bool, tests: str, *, quick: bool, keep: bool = True
) -> None:
    """Measures the cases one after another, and writes a row for each if they are to be kept."""
    writer, title = Writer("norms", tests, quick=quick) if keep else None, ""
    for case in cases:
        if case.title() != title:
            title = case.title()
            print(f"\n{title}\n{'shape':>22} {'forward':>8} {'both':>8}   eager / ours")
        tried = variants(case, peers=not quick, compiled=case.peers and compiled)
        row = figures(case, tried, seconds / len(cases), least=3 if quick else 5)
        if writer:
            writer.row(row)
        shape = " × ".join(map(str, case.shape))
        ratios = [row["seconds"]["eager"][way][1] / row["seconds"]["ours"][way][1] for way in ("forward", "both")]
        print(f"{shape:>22} {ratios[0]:8.2f} {ratios[1]:8.2f}", flush=True)
    if writer:
        writer.end()


def figures(case: Case, tried: Tried, seconds: float, least: int) -> dict[str, Any]:
    """One row: by variant and direction low, median and high of the seconds; and the memory of ours and of eager."""
    calls = {f"{name}/{way}": call for name, ways in tried.items() for way, call in ways.items()}
    served = kernel(tried["ours"], tried["eager"])
    needed = {name: _memory(tried[name]) for name in ("ours", "eager")}  # compiles our kernels as well
    timings, rounds = interleaved(calls, seconds, least=least, warm_up=1)
    taken = {name: {way: astuple(timings[f"{name}/{way}"]) for way in ways} for name, ways in tried.items()}
    return {"case": case.to_json(), "kernel": served, "rounds": rounds, "seconds": taken, "bytes": needed}


def _memory(ways: Mapping[str, Call]) -> dict[str, int]:
    """Bytes that are held when the forward has returned, and at most until the backward has."""
    return {"kept": allocated(ways["forward"]).kept, "peak": allocated(ways["both"]).peak}


if __name__ == "__main__":
    main()
