"""No figure of speed from code that is wrong: the tests of kernels, ops and layers come first."""

import subprocess
import sys

from benchmarks.machine import ROOT

FOLDERS = ("tests/kernels", "tests/ops", "tests/layers")
COMMAND = (sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile", *FOLDERS)
PASSED, NOT_RUN = "passed", "not run"


def after_tests(*, skip: bool) -> str:
    """What is written beside the figures: `passed`, or `not run` if they were skipped.

    Args:
        skip: whether the user answers for the code; the results, and the page made from them, say that.

    Raises:
        SystemExit: a test fails, or there is none.
    """
    if skip:
        return NOT_RUN
    done = subprocess.run(COMMAND, cwd=ROOT, check=False)  # noqa: S603 - fixed words
    if code := done.returncode:
        raise SystemExit(
            f"nothing measured: the tests are red (pytest ended with {code}).\n"
            f"  got: {' '.join(FOLDERS)}\n"
            f"  fix: make them pass, or say --without-tests and have the results say so."
        )
    return PASSED
