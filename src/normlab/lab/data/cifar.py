"""CIFAR-10 and CIFAR-100 from their original files, in the binary or the python version.

Source:
    Krizhevsky 2009, Learning multiple layers of features from tiny images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from normlab.lab.data.arrays_pickle import PIXELS, read_batch
from normlab.lab.data.dataset import Dataset
from normlab.lab.data.files import faulty
from normlab.lab.data.group import Group, read_group
from normlab.lab.data.labels import checked_labels
from normlab.lab.data.standardized import standardized


@dataclass(frozen=True)
class _Cifar:
    """What tells the two apart. The last file of a group is the test set."""

    name: str
    title: str
    classes: int
    label_bytes: int  # of a binary record; the last one counts
    labels: str  # key in a pickle
    binary: Group
    python: Group


BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
TEN = _Cifar(
    name="cifar10",
    title="CIFAR-10",
    classes=10,
    label_bytes=1,
    labels="labels",
    binary=Group("cifar-10-batches-bin", tuple(f"{batch}.bin" for batch in BATCHES)),
    python=Group("cifar-10-batches-py", BATCHES),
)
HUNDRED = _Cifar(
    name="cifar100",
    title="CIFAR-100",
    classes=100,
    label_bytes=2,  # one of 20 coarse classes, then the fine one
    labels="fine_labels",
    binary=Group("cifar-100-binary", ("train.bin", "test.bin")),
    python=Group("cifar-100-python", ("train", "test")),
)


def cifar10(path: Path) -> Dataset:
    """50,000 images to train on and 10,000 to test on (or as many as the files have), 10 classes.

    The values are divided by 255 and standardized: less the mean of the whole training set in each of the three
    channels, over its standard deviation. The test set goes by the numbers of the training set.

    Args:
        path: the folder of data_batch_1.bin … test_batch.bin or of data_batch_1 … test_batch, or its parent, or
            the original .tar.gz.

    Shape:
        x: (N, 3, 32, 32) float32. y: (N,) int64.

    Raises:
        DataError: a file is missing, damaged or not what its name says.
    """
    return _cifar(path, TEN)


def cifar100(path: Path) -> Dataset:
    """50,000 images to train on and 10,000 to test on (or as many as the files have), the 100 fine classes.

    The values are divided by 255 and standardized: less the mean of the whole training set in each of the three
    channels, over its standard deviation. The test set goes by the numbers of the training set.

    Args:
        path: the folder of train.bin and test.bin or of train and test, or its parent, or the original .tar.gz.

    Shape:
        x: (N, 3, 32, 32) float32. y: (N,) int64.

    Raises:
        DataError: a file is missing, damaged or not what its name says.
    """
    return _cifar(path, HUNDRED)


def _cifar(path: Path, kind: _Cifar) -> Dataset:
    group, contents = read_group(path, (kind.binary, kind.python), f"{kind.title} (Krizhevsky 2009)")
    read = _records if group == kind.binary else _pickled
    *train, test = [read(content, file, kind) for file, content in contents.items()]
    x_train = np.concatenate([images for images, _ in train])
    y_train = np.concatenate([labels for _, labels in train])
    x_train, x_test = standardized(x_train, test[0])
    return Dataset(kind.name, "classification", x_train, y_train, x_test, test[1], outputs=kind.classes)


def _records(content: bytes, file: Path, kind: _Cifar) -> tuple[np.ndarray, np.ndarray]:
    size = kind.label_bytes + PIXELS
    if not content or len(content) % size:
        rule = f"{kind.title} in binary is a whole number of records of {size} bytes."
        raise faulty(file, rule, f"{len(content)} bytes, {len(content) / size:.2f} records")
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    labels = checked_labels(records[:, kind.label_bytes - 1], kind.classes, file)
    return records[:, kind.label_bytes :].reshape(-1, 3, 32, 32), labels


def _pickled(content: bytes, file: Path, kind: _Cifar) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_batch(content, file, kind.labels)
    return images.reshape(-1, 3, 32, 32), checked_labels(labels, kind.classes, file)
