"""The handwritten digits that come with scikit-learn: 1,797 images of 8 × 8."""

import numpy as np

from normlab.lab.data.dataset import Dataset

TEST_SAMPLES = 360  # a fifth, with every digit in proportion


def digits(seed: int) -> Dataset:
    """1,437 images to train on, 360 to test on, values in [0, 1], shape (N, 1, 8, 8).

    Source:
        Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), test part.
    """
    from sklearn.datasets import load_digits  # slow to import: only a run pays for it
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x = (bunch.images / 16.0).astype(np.float32)[:, None]
    y = bunch.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=TEST_SAMPLES, stratify=y, random_state=seed)
    return Dataset("digits", "classification", x_train, y_train, x_test, y_test, outputs=10)
