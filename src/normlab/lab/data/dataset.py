"""What a data set is here."""

import hashlib
from dataclasses import dataclass

import numpy as np

from normlab.lab.data.forms import Task


@dataclass(frozen=True)
class Dataset:
    """Arrays to train and to test on.

    Shape:
        x: (N, D), (N, C, H, W) or (N, C, D, H, W) float32. y: (N,) int64 labels, or (N, 1) float32 values.
    """

    name: str
    task: Task
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    outputs: int

    def sha256(self) -> str:
        """Hash of every array with its shape and dtype."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()
