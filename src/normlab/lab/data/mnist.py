"""MNIST and Fashion-MNIST from their four original files."""

from pathlib import Path

import numpy as np

from normlab.lab.data.dataset import Dataset
from normlab.lab.data.files import faulty
from normlab.lab.data.idx import read_idx
from normlab.lab.data.labels import checked_labels

CLASSES = 10
SIDE = 28
IMAGES, LABELS = "{}-images-idx3-ubyte", "{}-labels-idx1-ubyte"
FILES = tuple(pattern.format(part) for part in ("train", "t10k") for pattern in (IMAGES, LABELS))
ORIGIN = {
    "mnist": "MNIST, the database of handwritten digits of LeCun, Cortes and Burges",
    "fashion_mnist": "Fashion-MNIST of Xiao, Rasul and Vollgraf (Zalando Research, 2017)",
}


def mnist(path: Path, name: str) -> Dataset:
    """60,000 images to train on and 10,000 to test on (or as many as the files have), values in [0, 1].

    Args:
        path: the folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each as it is or as .gz; train-images.idx3-ubyte and so on will do too.
        name: mnist, or fashion_mnist, which has the same form.

    Shape:
        x: (N, 1, 28, 28) float32. y: (N,) int64.

    Raises:
        DataError: a file is missing, damaged or of other sizes.
    """
    files = {wanted: _find(path, wanted) for wanted in FILES}
    missing = [wanted for wanted, file in files.items() if file is None]
    if missing:
        raise _missing(path, name, missing)
    train, test = (
        _part(*(file for wanted, file in files.items() if file and wanted.startswith(part)))
        for part in ("train", "t10k")
    )
    return Dataset(name, "classification", *train, *test, outputs=CLASSES)


def _find(path: Path, wanted: str) -> Path | None:
    spellings = (wanted, wanted.replace("-idx", ".idx"))
    choices = (path / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz"))
    return next((file for file in choices if file.is_file()), None)


def _missing(path: Path, name: str, missing: list[str]) -> Exception:
    got = f"no {', '.join(missing)}" if path.is_dir() else "no such folder"
    rule = f"{name} needs a folder with {', '.join(FILES)}, each as it is or as .gz."
    return faulty(path, rule, got, f"put the original files of {ORIGIN[name]} there.")


def _part(images_file: Path, labels_file: Path) -> tuple[np.ndarray, np.ndarray]:
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if images.shape[1:] != (SIDE, SIDE) or not len(images):
        rule = f"there must be images, of {SIDE} × {SIDE} pixels."
        raise faulty(images_file, rule, " × ".join(map(str, images.shape)))
    if len(images) != len(labels):
        rule = f"{labels_file.name} must have as many labels as there are images."
        raise faulty(images_file, rule, f"{len(images)} images, {len(labels)} labels")
    x = np.divide(images, np.float32(255), dtype=np.float32)
    return x[:, None], checked_labels(labels, CLASSES, labels_file)
