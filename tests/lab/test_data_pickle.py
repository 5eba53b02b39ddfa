"""Pickles of CIFAR: what is read, what is refused, and that nothing in them runs."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.lab.data_files import HUNDRED, RESTORE, TEN, array2, pickle2, said, text2, write_cifar

from normlab.errors import DataError
from normlab.lab.data import load_data
from normlab.lab.data.arrays_pickle import read_batch

FILE = Path("data_batch_1")


def test_the_pickle_of_these_tests_is_one_that_python_and_numpy_read() -> None:
    images, labels = TEN[0]
    batch = pickle.loads(pickle2(images, labels), encoding="bytes")  # noqa: S301 - made here
    assert np.array_equal(batch[b"data"], images.reshape(2, 3072))
    assert batch[b"labels"] == labels


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_pickle_written_by_python_3_is_read_too(protocol: int, order: Any) -> None:
    images, labels = TEN[0]
    batch = {b"data": np.asarray(images.reshape(2, 3072), order=order), b"labels": labels, b"batch_label": b"1 of 5"}
    found = read_batch(pickle.dumps(batch, protocol), FILE, "labels")
    assert np.array_equal(found[0], images.reshape(2, 3072))
    assert found[1] == labels


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


MARK = "mark"
EVIL: dict[str, tuple[Callable[[], bytes], str]] = {  # each writes MARK where `pickle` reads it
    "os.system": (lambda: pickle.dumps(Calls(os.system, f"touch {MARK}"), 2), "posix.system"),
    "os.system, protocol 0": (lambda: f"cposix\nsystem\n(S'touch {MARK}'\ntR.".encode(), "posix.system"),
    "os.system by INST": (lambda: f"(S'touch {MARK}'\niposix\nsystem\n.".encode(), "posix.system"),
    "os.system by OBJ": (lambda: f"(cposix\nsystem\nS'touch {MARK}'\no.".encode(), "posix.system"),
    "eval": (lambda: pickle.dumps(Calls(eval, f"open({MARK!r}, 'w').close()"), 4), "builtins.eval"),
    "eval of Python 2": (lambda: pickle.dumps(Calls(eval, f"open({MARK!r}, 'w').close()"), 2), "__builtin__.eval"),
    "getattr": (
        lambda: (
            b"\x80\x04cbuiltins\ngetattr\ncos\n__dict__\n\x8c\x03get\x86R\x8c\x06system\x85R\x8c\x0atouch mark\x85R."
        ),
        "builtins.getattr",
    ),
    "copyreg": (
        lambda: b"ccopyreg\n_reconstructor\n0cposix\nsystem\n(S'touch mark'\ntR.",
        "copyreg._reconstructor",
    ),
    "a path in the name": (
        lambda: (
            b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x930\x8c\x05posix\x8c\x06system\x93\x8c\x0atouch mark\x85R."
        ),
        "numpy.ndarray.__new__",
    ),
    "among the data": (
        lambda: pickle2(*TEN[0])[:-2] + text2(b"more") + b"cposix\nsystem\n(S'touch mark'\ntRu.",
        "posix.system",
    ),
}


@pytest.mark.parametrize("case", EVIL)
def test_an_evil_pickle_does_not_run(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, name = EVIL[case]
    pickle.loads(make(), encoding="bytes")  # noqa: S301 - shows that it would run
    assert Path(MARK).exists()
    Path(MARK).unlink()
    assert said(lambda: read_batch(make(), FILE, "labels")) == (
        "data_batch_1: of a pickle only arrays, lists, numbers and texts are read; nothing in it is run.\n"
        f"  got: a pickle that asks for '{name}'\n  fix: do not use this file; get the original one."
    )
    assert not list(tmp_path.iterdir())


def test_an_object_outside_of_the_pickle_is_refused() -> None:
    for content in (b"Pname\n.", b"\x80\x02U\x04nameQ."):
        assert "got: a pickle that asks for an object outside of the file\n" in said(
            lambda content=content: read_batch(content, FILE, "labels")
        )


def test_what_is_allowed_cannot_be_changed_by_a_pickle() -> None:
    """BUILD sets attributes of what is under it: of a class of ours it could replace a method."""
    for name in (b"numpy.core.multiarray\n_reconstruct", b"numpy\nndarray", b"numpy\ndtype", b"_codecs\nencode"):
        content = b"c" + name + b"\n(N}U\x08__init__K\x01stb."
        said(lambda content=content: read_batch(content, FILE, "labels"))
        content = b"c" + name + b"\n}U\x08__init__K\x01sb."
        said(lambda content=content: read_batch(content, FILE, "labels"))
    assert np.array_equal(read_batch(pickle2(*TEN[0]), FILE, "labels")[0], TEN[0][0].reshape(2, 3072))


WRONG_DATA = "`data` must be an array of unsigned bytes (u1), a row of 3072 for each image."
ROW, TWO = bytes(3072), bytes(6144)
NUMBERS = text2(b"labels") + b"](K\x01K\x02e"


def dict2(data: bytes, rest: bytes = NUMBERS) -> bytes:
    return b"\x80\x02}(" + text2(b"data") + data + rest + b"u."


SHAPES = {  # content, what is said of it
    "objects": (pickle.dumps({b"data": np.array([[None] * 3072])}, 2), WRONG_DATA, "shape (1, 3072), type 'O8'"),
    "objects made by hand": (dict2(array2(ROW, (1, 3072), b"O8")), WRONG_DATA, "shape (1, 3072), type b'O8'"),
    "other numbers": (pickle.dumps({b"data": np.zeros((1, 3072))}, 2), WRONG_DATA, "shape (1, 3072), type 'f8'"),
    "other columns": (dict2(array2(ROW, (3, 1024))), WRONG_DATA, "shape (3, 1024), type b'u1'"),
    "fewer bytes than said": (dict2(array2(ROW, (2, 3072))), WRONG_DATA, "shape (2, 3072), type b'u1'"),
    "no image": (dict2(array2(b"", (0, 3072))), WRONG_DATA, "shape (0, 3072), type b'u1'"),
    "two negative sizes": (dict2(array2(ROW, (-1, -3072))), WRONG_DATA, "shape (-1, -3072), type b'u1'"),
    "a list": (pickle.dumps({b"data": [[0] * 3072]}, 2), WRONG_DATA, "list"),
    "nothing": (pickle.dumps({}, 2), WRONG_DATA, "NoneType"),
    "itself": (b"}q\x00" + text2(b"data") + b"h\x00s.", WRONG_DATA, "dict"),
    "an array in place of the dict": (
        pickle.dumps(np.zeros(3), 2),
        "the pickle must be a dict with `data` and `labels`.",
        "_Array",
    ),
    "fewer labels": (
        pickle2(TEN[0][0], [1]),
        "`labels` must be a list of whole numbers, one for each image.",
        "1 entries for 2 images",
    ),
    "labels that are no numbers": (
        dict2(array2(TWO, (2, 3072)), text2(b"labels") + b"](K\x01Ne"),
        "`labels` must be a list of whole numbers, one for each image.",
        "2 entries for 2 images",
    ),
    "no labels": (
        pickle2(*TEN[0], key="fine_labels"),
        "`labels` must be a list of whole numbers, one for each image.",
        "NoneType",
    ),
    "cut off": (
        pickle2(*TEN[0])[:-1],
        "the file must be a whole pickle.",
        "ValueError: pickle exhausted before seeing STOP",
    ),
    "a tuple too deep to hash": (  # 1,000,000 of them end the process with a segmentation fault
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",
        "the file must be a whole pickle.",
        "ValueError: more than 1000 tuples",
    ),
    "a memo of 32 GB": (
        b"\x80\x02}r\xff\xff\xff\x7f.",
        "the file must be a whole pickle.",
        "ValueError: place 2147483647 of the memo at step 2",
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_pickle_of_another_form_says_what_is_wrong(case: str) -> None:
    content, rule, got = SHAPES[case]
    assert said(lambda: read_batch(content, FILE, "labels")) == f"data_batch_1: {rule}\n  got: {got}{RESTORE}"


def test_labels_as_large_as_can_be_are_out_of_range(tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar100", python=True)
    batch = {b"data": HUNDRED[1][0].reshape(2, 3072), b"fine_labels": [-1, 2**70]}
    (tmp_path / "test").write_bytes(pickle.dumps(batch, 2))
    assert "got: -1 at sample 0" in said(lambda: load_data(f"cifar100={tmp_path}", 0))
    batch[b"fine_labels"] = [0, 2**70]
    (tmp_path / "test").write_bytes(pickle.dumps(batch, 2))
    assert f"got: {2**70} at sample 1" in said(lambda: load_data(f"cifar100={tmp_path}", 0))


def test_garbage_is_refused_and_nothing_else_happens() -> None:
    """Every cut, and random bytes in random places outside of the pixels."""
    whole = pickle2(*TEN[0])
    draws = np.random.default_rng(1)
    start, end = whole.index(b"T\0\x18\0\0") + 5, whole.index(b"T\0\x18\0\0") + 5 + 6144
    places = [*range(start), *range(end, len(whole))]
    refused = 0
    for cut in places:
        refused += _refused(whole[:cut])
    assert refused == len(places)
    refused = 0
    for _ in range(2000):
        content = bytearray(whole)
        for place in draws.choice(places, draws.integers(1, 4)):
            content[place] = draws.integers(256)
        refused += _refused(bytes(content))
    assert refused > 1000
    assert all(_refused(draws.bytes(100)) for _ in range(200))


def _refused(content: bytes) -> bool:
    try:
        images, labels = read_batch(content, FILE, "labels")
    except DataError as error:
        return str(error).startswith("data_batch_1: ")
    assert (images.shape, images.dtype) == ((2, 3072), np.uint8)
    assert len(labels) == 2
    return False
