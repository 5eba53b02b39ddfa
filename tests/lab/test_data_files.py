"""Data sets from files that the tests write."""

import gzip
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tests.lab.data_files import (
    BATCHES,
    DIGITS,
    HUNDRED,
    MNIST_FILES,
    RESTORE,
    TEN,
    idx,
    packed,
    pickle2,
    records,
    said,
    write_cifar,
    write_mnist,
)

from normlab.errors import UsageError
from normlab.lab.data import Dataset, load_data
from normlab.lab.data.forms import FORMS
from normlab.lab.data.idx import read_idx

FOLDERS = {
    ("cifar10", False): "cifar-10-batches-bin",
    ("cifar10", True): "cifar-10-batches-py",
    ("cifar100", False): "cifar-100-binary",
    ("cifar100", True): "cifar-100-python",
}
BOTH = pytest.mark.parametrize("python", [False, True], ids=["binary", "python"])
EACH_CIFAR = pytest.mark.parametrize("name", ["cifar10", "cifar100"])


def made(name: str, folder: Path) -> Dataset:
    if not FORMS[name].from_files:
        return load_data(name, 0)
    write = write_mnist(folder) if "mnist" in name else write_cifar(folder, name, python=False)
    return load_data(f"{name}={write}", 0)


@pytest.mark.parametrize("name", FORMS)
def test_every_data_set_has_the_form_that_is_known_of_it(name: str, tmp_path: Path) -> None:
    data, form = made(name, tmp_path), FORMS[name]
    assert (data.name, data.task, data.outputs) == (name, form.task, form.outputs)
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.shape[1:] == form.shape
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert x.flags.writeable  # torch warns of an array that is not
        assert y.flags.writeable
        if form.task == "classification":
            assert (y.shape, y.dtype) == (x.shape[:1], np.int64)
            assert set(y) <= set(range(form.outputs))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_gives_back_what_was_written(name: str, tmp_path: Path) -> None:
    data = load_data(f"{name}={write_mnist(tmp_path)}", 0)
    for (images, labels), x, y in zip(DIGITS, (data.x_train, data.x_test), (data.y_train, data.y_test), strict=True):
        assert np.array_equal(x, (images / 255).astype(np.float32)[:, None])
        assert y.tolist() == labels


def test_mnist_is_the_same_however_its_files_are_packed_and_spelled(tmp_path: Path) -> None:
    plain = load_data(f"mnist={write_mnist(tmp_path / 'plain')}", 0)
    ways = [("gz", ".gz", "-idx"), ("dots", "", ".idx"), ("both", ".gz", ".idx")]
    found = [load_data(f"mnist={write_mnist(tmp_path / place, *way)}", 0) for place, *way in ways]
    assert {data.sha256() for data in found} == {plain.sha256()}


def test_the_first_bytes_tell_gzip_and_not_the_suffix(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed"
    plain.write_bytes(idx(DIGITS[0][0]))
    packed.write_bytes(gzip.compress(idx(DIGITS[0][0])))
    assert np.array_equal(read_idx(plain, 3), DIGITS[0][0])
    assert np.array_equal(read_idx(packed, 3), DIGITS[0][0])


def test_original_files_have_their_own_split_whatever_the_seed(tmp_path: Path) -> None:
    path = write_mnist(tmp_path)
    assert load_data(f"mnist={path}", 0).sha256() == load_data(f"mnist={path}", 1).sha256()
    assert load_data(f"mnist={path}", 0, 2).y_train.tolist() == [DIGITS[0][1][0], DIGITS[0][1][3]]


WHOLE = idx(np.arange(6, dtype=np.uint8))
PACKED = gzip.compress(WHOLE)
DAMAGED = {  # content, what is said of it
    "too short": (
        WHOLE[:-1],
        "its header says 6 values of one byte.\n  got: 5 bytes after it: too short",
    ),
    "too long": (WHOLE + b"\0", "its header says 6 values of one byte.\n  got: 7 bytes after it: too long"),
    "a picture": (b"\x89PNG\r\n", "an IDX file begins with two bytes of 0.\n  got: 89 50 4e 47"),
    "empty": (b"", "an IDX file begins with two bytes of 0.\n  got: an empty file"),
    "only the beginning of the magic": (b"\0\0", "the values must be unsigned bytes, type 08.\n  got: type missing"),
    "floating point": (b"\0\0\x0d\x01" + WHOLE[4:], "the values must be unsigned bytes, type 08.\n  got: type 0d"),
    "images": (idx(np.zeros((2, 3, 1), np.uint8)), "the number of dimensions must be 1.\n  got: 3 in its header"),
    "only the magic": (WHOLE[:4], "the header must be 8 bytes long.\n  got: 4 bytes in all"),
    "cut off gzip": (
        PACKED[:-9],
        "the gzip file is cut off or damaged.\n"
        "  got: Compressed file ended before the end-of-stream marker was reached",
    ),
    "a size as large as can be": (
        b"\0\0\x08\x01\xff\xff\xff\xff123",
        "its header says 4294967295 values of one byte.\n  got: 3 bytes after it: too short",
    ),
}


@pytest.mark.parametrize(("content", "text"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_idx_file_says_what_is_wrong(content: bytes, text: str, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_bytes(content)
    assert said(lambda: read_idx(file, 1)) == f"{file}: {text}{RESTORE}"


def test_gzip_with_other_bytes_in_it_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "labels"
    for place in (12, len(PACKED) - 6):  # the data, the checksum
        content = bytearray(PACKED)
        content[place] ^= 0xFF
        file.write_bytes(content)
        assert said(lambda: read_idx(file, 1)).startswith(f"{file}: the gzip file is cut off or damaged.\n  got: ")


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    assert said(lambda: read_idx(tmp_path, 1)) == (
        f"{tmp_path}: the file cannot be read.\n  got: Is a directory\n  fix: check its rights and the disk."
    )


def test_a_missing_folder_of_mnist_says_what_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "nothing"
    assert said(lambda: load_data(f"mnist={path}", 0)) == (
        f"{path}: mnist needs a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
        "t10k-labels-idx1-ubyte, each as it is or as .gz.\n  got: no such folder\n"
        "  fix: put the original files of MNIST, the database of handwritten digits of LeCun, Cortes and Burges there."
    )


def test_missing_files_of_mnist_are_named(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / MNIST_FILES[1]).unlink()
    (tmp_path / MNIST_FILES[2]).unlink()
    assert said(lambda: load_data(f"fashion_mnist={tmp_path}", 0)) == (
        f"{tmp_path}: fashion_mnist needs a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each as it is or as .gz.\n"
        "  got: no train-labels-idx1-ubyte, t10k-images-idx3-ubyte\n"
        "  fix: put the original files of Fashion-MNIST of Xiao, Rasul and Vollgraf (Zalando Research, 2017) there."
    )


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "got: no such folder" in said(lambda: load_data(f"mnist={tmp_path / 'file'}", 0))


MISMATCHED = {  # the file that is replaced, by what, what is said, of which file
    "fewer labels": (1, np.zeros(6, np.uint8), "7 images, 6 labels", 0),
    "other sizes": (0, np.zeros((7, 28, 27), np.uint8), "7 × 28 × 27", 0),
    "no images": (2, np.zeros((0, 28, 28), np.uint8), "0 × 28 × 28", 2),
    "a tenth label": (3, np.array([9, 0, 10], np.uint8), "10 at sample 2", 3),
}
RULES = {
    "fewer labels": "train-labels-idx1-ubyte must have as many labels as there are images.",
    "other sizes": "there must be images, of 28 × 28 pixels.",
    "no images": "there must be images, of 28 × 28 pixels.",
    "a tenth label": "every label must lie in 0 to 9.",
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_files_of_mnist_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    place, array, got, named = MISMATCHED[case]
    write_mnist(tmp_path)
    (tmp_path / MNIST_FILES[place]).write_bytes(idx(array))
    text = f"{tmp_path / MNIST_FILES[named]}: {RULES[case]}\n  got: {got}{RESTORE}"
    assert said(lambda: load_data(f"mnist={tmp_path}", 0)) == text


@EACH_CIFAR
@BOTH
def test_cifar_gives_back_what_was_written_standardized(name: str, python: bool, tmp_path: Path) -> None:
    data = load_data(f"{name}={write_cifar(tmp_path, name, python)}", 0)
    *train, test = TEN if name == "cifar10" else HUNDRED
    images = np.concatenate([images for images, _ in train]) / 255
    mean, std = images.mean(axis=(0, 2, 3), keepdims=True), images.std(axis=(0, 2, 3), keepdims=True)
    # float32 rounds once, and the two ways of the mean differ in the last bits of float64
    ulp = float(np.finfo(np.float32).eps)
    assert np.allclose(data.x_train, (images - mean) / std, rtol=ulp, atol=ulp)
    assert np.allclose(data.x_test, (test[0] / 255 - mean) / std, rtol=ulp, atol=ulp)
    assert data.y_train.tolist() == [label for _, labels in train for label in labels]
    assert data.y_test.tolist() == test[1]


@EACH_CIFAR
def test_cifar_is_the_same_however_it_is_packed(name: str, tmp_path: Path) -> None:
    hashes = set()
    for python in (False, True):
        folder = write_cifar(tmp_path / str(python) / FOLDERS[name, python], name, python)
        archives = [packed(folder, tmp_path / f"{python}{gz}", gz=gz) for gz in (True, False)]
        for path in (folder, folder.parent, *archives):
            hashes.add(load_data(f"{name}={path}", 0).sha256())
    assert len(hashes) == 1


def test_a_whole_version_is_preferred_to_a_part_of_another(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py", "cifar10", python=True)
    (write_cifar(tmp_path, "cifar10", python=False) / "test_batch.bin").unlink()
    assert load_data(f"cifar10={tmp_path}", 0).y_test.tolist() == TEN[-1][1]


def test_a_channel_of_one_value_becomes_nought(tmp_path: Path) -> None:
    images = TEN[0][0].copy()
    images[:, 1] = 77
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(records(images, [0, 1], coarse=True))
    assert not load_data(f"cifar100={tmp_path}", 0).x_train[:, 1].any()


CIFAR10_WANTED = (
    "there must be data_batch_1.bin, data_batch_2.bin, data_batch_3.bin, data_batch_4.bin, data_batch_5.bin, "
    "test_batch.bin (cifar-10-batches-bin) or data_batch_1, data_batch_2, data_batch_3, data_batch_4, data_batch_5, "
    "test_batch (cifar-10-batches-py), in a folder or a tar archive.\n"
)
CIFAR10_FIX = "\n  fix: give the path of the original files of CIFAR-10 (Krizhevsky 2009)."


def test_missing_files_of_cifar_are_named(tmp_path: Path) -> None:
    empty, some, nowhere = tmp_path / "empty", tmp_path / "some", tmp_path / "nowhere"
    empty.mkdir()
    folder = write_cifar(some / "cifar-10-batches-py", "cifar10", python=True)
    (folder / "data_batch_3").unlink()
    for path, got in (
        (nowhere, "no such folder or file"),
        (empty, "none of them"),
        (some, "no data_batch_3"),
        (packed(folder, tmp_path / "archive"), "no data_batch_3"),
        (packed(empty, tmp_path / "other"), "none of them"),
    ):
        assert said(lambda path=path: load_data(f"cifar10={path}", 0)) == (
            f"{path}: {CIFAR10_WANTED}  got: {got}{CIFAR10_FIX}"
        )


def test_an_archive_must_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(b"no archive")
    rule = "the file must be a whole tar archive, as .gz or not."
    assert said(lambda: load_data(f"cifar10={path}", 0)) == f"{path}: {rule}\n  got: truncated header{RESTORE}"
    folder = write_cifar(tmp_path / FOLDERS["cifar10", False], "cifar10", python=False)
    content = packed(folder, path, gz=False).read_bytes()
    path.write_bytes(content[: 3 * 3073])
    assert said(lambda: load_data(f"cifar10={path}", 0)).startswith(f"{path}: {rule}\n  got: unexpected end of data")
    content = gzip.compress(content)
    path.write_bytes(content[:-20])  # all images are there, the checksum is not
    assert said(lambda: load_data(f"cifar10={path}", 0)) == (
        f"{path}: the gzip file is cut off or damaged.\n"
        f"  got: Compressed file ended before the end-of-stream marker was reached{RESTORE}"
    )
    path.write_bytes(content[:-8] + bytes(4) + content[-4:])
    assert said(lambda: load_data(f"cifar10={path}", 0)).startswith(
        f"{path}: the gzip file is cut off or damaged.\n  got: CRC check failed"
    )


def test_an_archive_writes_nothing_and_follows_no_path(tmp_path: Path) -> None:
    """A member that climbs out of its folder, and links in place of the files."""
    folder = tmp_path / "home"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(records(*TEN[0], coarse=False))
    path = folder / "archive"
    with tarfile.open(path, "w:gz") as tar:
        climbing = tarfile.TarInfo("../climbed")
        climbing.size = 3
        tar.addfile(climbing, io.BytesIO(b"abc"))
        for batch in BATCHES:
            link = tarfile.TarInfo(f"cifar-10-batches-bin/{batch}.bin")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
            tar.addfile(link)
    assert "got: none of them" in said(lambda: load_data(f"cifar10={path}", 0))
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["archive", "home", "secret"]


@pytest.mark.parametrize(("length", "share"), [(0, "0.00"), (3072, "1.00"), (3073 * 2 + 1, "2.00")])
def test_a_binary_file_is_a_whole_number_of_records(length: int, share: str, tmp_path: Path) -> None:
    write_cifar(tmp_path, "cifar10", python=False)
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(length))
    assert said(lambda: load_data(f"cifar10={tmp_path}", 0)) == (
        f"{tmp_path / 'data_batch_2.bin'}: CIFAR-10 in binary is a whole number of records of 3073 bytes.\n"
        f"  got: {length} bytes, {share} records{RESTORE}"
    )


@BOTH
def test_labels_of_cifar_lie_in_range(python: bool, tmp_path: Path) -> None:
    """99 is the last fine class."""
    write_cifar(tmp_path, "cifar100", python)
    file = tmp_path / ("test" if python else "test.bin")
    images = HUNDRED[1][0]
    file.write_bytes(pickle2(images, [99, 100], "fine_labels") if python else records(images, [99, 100], coarse=True))
    assert said(lambda: load_data(f"cifar100={tmp_path}", 0)) == (
        f"{file}: every label must lie in 0 to 99.\n  got: 100 at sample 1{RESTORE}"
    )


WORDS = {
    "cifar": "load_data: there is no data set `cifar`.\n  fix: did you mean `cifar10`?",
    "mnist": "load_data: `mnist` is read from its original files.\n  got: mnist\n  fix: write mnist=PATH.",
    "blobs=/tmp": "load_data: `blobs` has no files.\n  got: blobs=/tmp\n  fix: write blobs.",
}


@pytest.mark.parametrize(("data", "text"), WORDS.items(), ids=WORDS)
def test_a_name_and_its_path_must_fit(data: str, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_data(data, 0)
    assert str(raised.value) == text


def test_files_are_read_without_torch_or_sklearn(tmp_path: Path) -> None:
    code = f"""
import sys
from normlab.lab.data import load_data
load_data("mnist={write_mnist(tmp_path / "mnist")}", 0)
load_data("cifar10={write_cifar(tmp_path / "cifar", "cifar10", python=True)}", 0)
print({{"torch", "sklearn"}} & set(sys.modules))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
