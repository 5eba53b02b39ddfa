"""Writers of the original files of data sets, byte by byte, as their formats are described."""

import gzip
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normlab.errors import DataError

RNG = np.random.default_rng(0)
Part = tuple[np.ndarray, list[int]]  # images (N, …) uint8, labels
BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def part(count: int, *shape: int, classes: int = 10) -> Part:
    return RNG.integers(0, 256, (count, *shape), np.uint8), RNG.integers(0, classes, count).tolist()


DIGITS = (part(7, 28, 28), part(3, 28, 28))
TEN = [part(2, 3, 32, 32) for _ in range(5)] + [part(3, 3, 32, 32)]
HUNDRED = [part(4, 3, 32, 32, classes=100), part(2, 3, 32, 32, classes=100)]


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder: Path, suffix: str = "", spelling: str = "-idx") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for images, labels, stem in ((*DIGITS[0], "train"), (*DIGITS[1], "t10k")):
        for kind, array in (("images-idx3", images), ("labels-idx1", np.array(labels, np.uint8))):
            name = f"{stem}-{kind}-ubyte{suffix}".replace("-idx", spelling)
            (folder / name).write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    return folder


def records(images: np.ndarray, labels: list[int], coarse: bool) -> bytes:
    heads = [bytes([label // 5, label] if coarse else [label]) for label in labels]
    return b"".join(head + image.tobytes() for head, image in zip(heads, images, strict=True))


def text2(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def array2(values: bytes, shape: tuple[int, ...], kind: bytes = b"u1") -> bytes:
    numbers = b"".join(b"J" + struct.pack("<i", size) for size in shape)
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85" + text2(b"b") + b"tR"
        b"(K\x01(" + numbers + b"tcnumpy\ndtype\n" + text2(kind) + b"K\0K\x01\x87R"
        b"(K\x03" + text2(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        + b"\x89T" + struct.pack("<i", len(values)) + values + b"tb"
    )  # fmt: skip


def pickle2(images: np.ndarray, labels: list[int], key: str = "labels") -> bytes:
    """As Python 2 wrote it: protocol 2, texts as byte strings."""
    rows = images.reshape(len(images), -1)
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return (
        b"\x80\x02}q\x01(" + text2(b"data") + b"q\x02" + array2(rows.tobytes(), rows.shape)
        + text2(key.encode()) + b"q\x03](" + numbers + b"eu."
    )  # fmt: skip


def write_cifar(folder: Path, name: str, python: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = BATCHES if name == "cifar10" else ["train", "test"]
    for file, (images, labels) in zip(files, TEN if name == "cifar10" else HUNDRED, strict=True):
        if python:
            key = "labels" if name == "cifar10" else "fine_labels"
            (folder / file).write_bytes(pickle2(images, labels, key))
        else:
            (folder / f"{file}.bin").write_bytes(records(images, labels, coarse=name == "cifar100"))
    return folder


def packed(folder: Path, archive: Path, *, gz: bool = True) -> Path:
    with tarfile.open(archive, "w:gz" if gz else "w") as tar:
        tar.add(folder, folder.name)
    return archive


RESTORE = "\n  fix: put the original file there again."


def said(read: Callable[[], Any]) -> str:
    with pytest.raises(DataError) as raised:
        read()
    return str(raised.value)
