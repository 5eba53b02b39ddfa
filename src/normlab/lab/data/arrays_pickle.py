"""Pickles of the CIFAR python version, read without running anything that they ask for.

What a pickle may name is a short list, and each name stands for something harmless of ours, never for what the file
would import: an array and its dtype become a `_Shell` that keeps what it is given, and NumPy only sees the bytes
once they have been checked.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from normlab import errors
from normlab.lab.data.files import faulty

PIXELS = 3 * 32 * 32
MOST_TUPLES = 1000  # an original file has 6


class _Shell:
    """Keeps what a pickle would make an object of."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Shell):
    __slots__ = ()


class _Dtype(_Shell):
    __slots__ = ()


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): str.encode,  # how Python 3 writes bytes for Python 2; str.encode knows text encodings only
}


class _Reader(pickle.Unpickler):
    def __init__(self, content: bytes, file: Path) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise self._refused(repr(f"{module}.{name}"[:100]))
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise self._refused("an object outside of the file")

    def _refused(self, what: str) -> errors.DataError:
        rule = "of a pickle only arrays, lists, numbers and texts are read; nothing in it is run."
        return faulty(self._file, rule, f"a pickle that asks for {what}", "do not use this file; get the original one.")


def read_batch(content: bytes, file: Path, labels: str) -> tuple[np.ndarray, list[int]]:
    """The images and labels of one file of the CIFAR python version.

    Args:
        content: what the file holds.
        file: named in errors.
        labels: the key of the labels: labels, or fine_labels.

    Shape:
        images: (N, 3072) uint8, not to be written to. labels: N numbers of any size.

    Raises:
        DataError: it is not a pickle, asks for more than arrays, or does not have that form.
    """
    try:
        _screen(content)
        batch = _Reader(content, file).load()
    except errors.DataError:
        raise
    except Exception as error:  # a damaged pickle can raise anything, says the documentation of `pickle`
        raise faulty(file, "the file must be a whole pickle.", f"{type(error).__name__}: {error}") from None
    if type(batch) is not dict:
        raise faulty(file, f"the pickle must be a dict with `data` and `{labels}`.", type(batch).__name__)
    images = _images(batch.get(b"data"), file)
    found = batch.get(labels.encode())
    if type(found) is not list or len(found) != len(images) or any(type(label) is not int for label in found):
        count = f"{len(found)} entries for {len(images)} images" if type(found) is list else type(found).__name__
        raise faulty(file, f"`{labels}` must be a list of whole numbers, one for each image.", count)
    return images, found


def _screen(content: bytes) -> None:
    """Refuses what makes `pickle` itself crash, which no exception would tell.

    The hash of a tuple in a tuple in a tuple … has no limit on its depth (a million: segmentation fault in Python
    3.11), and the place of a value in the memo decides how much memory is taken (2³¹: 32 GB).
    """
    tuples = 0
    for done, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        tuples += opcode.name.startswith("TUPLE")
        if tuples > MOST_TUPLES:
            raise ValueError(f"more than {MOST_TUPLES} tuples")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > done:
            raise ValueError(f"place {argument} of the memo at step {done}")


def _images(value: Any, file: Path) -> np.ndarray:
    match value:
        case _Array(
            state=(_, (int(rows), int(columns)), _Dtype(arguments=("u1" | b"u1", *_)), fortran, bytes(values))
        ) if rows > 0 and columns == PIXELS and len(values) == rows * columns:
            return np.frombuffer(values, np.uint8).reshape((rows, columns), order="F" if fortran else "C")
        case _Array(state=(_, tuple(shape), _Dtype(arguments=(str() | bytes() as kind, *_)), *_)):
            got = f"shape {shape}, type {kind!r}"[:100]
        case _:
            got = type(value).__name__.lstrip("_")
    raise faulty(file, f"`data` must be an array of unsigned bytes (u1), a row of {PIXELS} for each image.", got)
