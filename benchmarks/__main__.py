"""The tests, every benchmark of speed, and the page: python -m benchmarks [--quick] [--without-tests]"""

import argparse

from benchmarks import bench_first_call, bench_norms, bench_steps, gate
from benchmarks.cases import plan
from benchmarks.performance.__main__ import write

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few cases, a few rounds")
    parser.add_argument("--without-tests", action="store_true", help="measure untested code; the results say so")
    chosen = parser.parse_args()
    tests = gate.after_tests(skip=chosen.without_tests)
    quick = chosen.quick
    bench_norms.measure(plan(quick), bench_norms.SECONDS[quick], "none" if quick else "some", tests, quick=quick)
    bench_steps.measure(bench_steps.SECONDS[quick], tests, quick=quick)
    bench_first_call.measure(tests, quick=quick)
    write()
