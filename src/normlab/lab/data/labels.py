"""Labels as they come from a file, checked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from normlab.lab.data.files import faulty


def checked_labels(labels: np.ndarray | Sequence[int], classes: int, file: Path) -> np.ndarray:
    """The labels as int64.

    Raises:
        DataError: one of them lies outside 0 to classes − 1.
    """
    found = np.asarray(labels)
    outside = np.flatnonzero((found < 0) | (found >= classes))
    if outside.size:
        first = outside[0]
        raise faulty(file, f"every label must lie in 0 to {classes - 1}.", f"{found[first]} at sample {first}")
    return found.astype(np.int64)
