"""Generated: ten classes whose features have very different scales, so that it matters to normalize the input."""

import numpy as np

from normlab.lab.data.dataset import Dataset
from normlab.lab.streams import numpy_stream

CLASSES, FEATURES = 10, 20
TRAIN, TEST = 1500, 500
SPREAD = 0.87  # of the centres, where a class has deviation 1: some classes overlap


def blobs(seed: int) -> Dataset:
    """1,500 samples of 20 features to train on and 500 to test on, each class as often as the others.

    Within a class each feature is normal with a deviation between 0.01 and 100 and a mean of some deviations.
    The nearest centre of the standardized features is right in 90 to 98 % of the test samples.
    """
    draws = numpy_stream(seed, "blobs")
    centers = draws.normal(0, SPREAD, (CLASSES, FEATURES))
    offsets = draws.normal(0, 3, FEATURES)
    scales = 10 ** draws.uniform(-2, 2, FEATURES)
    x, y = [], []
    for count in (TRAIN, TEST):
        labels = draws.permutation(np.arange(count) % CLASSES)
        values = centers[labels] + offsets + draws.normal(0, 1, (count, FEATURES))
        x.append((values * scales).astype(np.float32))
        y.append(labels.astype(np.int64))
    return Dataset("blobs", "classification", x[0], y[0], x[1], y[1], outputs=CLASSES)
