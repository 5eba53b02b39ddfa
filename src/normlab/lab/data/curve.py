"""The regression of S4: y = x² − 5 with noise of variance 4."""

import numpy as np

from normlab.lab.data.dataset import Dataset
from normlab.lab.streams import numpy_stream


def curve(seed: int) -> Dataset:
    """2,000 points from −7 to 10 to train on and 200 to test on, each with noise N(0, 2) (standard deviation 2)."""
    noise = numpy_stream(seed, "curve noise")
    x_train, y_train = _points(2000, noise)
    x_test, y_test = _points(200, noise)
    return Dataset("curve", "regression", x_train, y_train, x_test, y_test, outputs=1)


def _points(count: int, noise: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(-7, 10, count)[:, None]
    y = x**2 - 5 + noise.normal(0, 2, x.shape)
    return x.astype(np.float32), y.astype(np.float32)
