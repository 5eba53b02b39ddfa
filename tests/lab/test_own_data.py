"""Data of the user's, in each form that their function may return them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lab.own_code import write as write
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from normlab.errors import UsageError
from normlab.lab.data import Dataset as LabDataset
from normlab.lab.data import load_data
from normlab.lab.data.own import own_data

Write = Callable[..., Path]
X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])
RETURNS = "  fix: return x_train, y_train, x_test, y_test (arrays or tensors), or two map-style torch datasets."


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], LabDataset]:
    """What becomes of data that a function of the user's returns."""

    def load(data: Any) -> LabDataset:
        monkeypatch.setattr("normlab.lab.data.own.called", lambda name, *arguments, **named: data)
        return own_data("math:sqrt", 0)

    return load


def refusal(load: Callable[[Any], LabDataset], data: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(data)
    return str(caught.value)


class Pairs(Dataset):
    """A map-style dataset that is no list and no TensorDataset."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.x[index], self.y[index]


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter([(0.0, 1.0)])


def tensors() -> list[torch.Tensor]:
    return [torch.tensor(each) for each in (X[:4], Y[:4], X[4:], Y[4:])]


@pytest.mark.parametrize(
    "form",
    [
        lambda: (X[:4], Y[:4], X[4:], Y[4:]),
        lambda: [X[:4].tolist(), Y[:4].tolist(), X[4:].tolist(), Y[4:].tolist()],
        lambda: tuple(tensors()),
        lambda: ((X[:4], Y[:4]), (X[4:], Y[4:])),
        lambda: [(tensors()[0], tensors()[1]), (tensors()[2], tensors()[3])],
        lambda: (TensorDataset(*tensors()[:2]), TensorDataset(*tensors()[2:])),
        lambda: (Pairs(X[:4], Y[:4].tolist()), Pairs(X[4:], Y[4:].tolist())),
        lambda: LabDataset("theirs", "classification", X[:4], Y[:4], X[4:], Y[4:], outputs=3),
        lambda: (np.asfortranarray(X[:4]), Y[:4].astype(np.int8), X[4:][::1], Y[4:].astype(">i4")),
        lambda: (torch.tensor(X[:4], requires_grad=True), Y[:4].astype(np.uint64), X[4:].astype(">f4"), Y[4:]),
    ],
    ids=["arrays", "lists", "tensors", "pairs", "pairs of tensors", "TensorDatasets", "datasets", "Dataset", "orders",
         "types"],
)  # fmt: skip
def test_every_form_gives_the_same_arrays(form: Callable[[], Any], loaded: Callable[[Any], LabDataset]) -> None:
    data = loaded(form())
    for found, expected in ((data.x_train, X[:4]), (data.x_test, X[4:]), (data.y_train, Y[:4]), (data.y_test, Y[4:])):
        assert np.array_equal(found, expected)
        torch.from_numpy(np.ascontiguousarray(found))
    assert data.x_train.dtype.kind == "f"
    assert (data.task, data.outputs, data.y_train.dtype, data.name) == ("classification", 3, np.int64, "math:sqrt")


@pytest.mark.parametrize(
    ("y", "task", "outputs", "shape"),
    [
        (np.array([0, 1, 4, 0, 1, 2], dtype=np.uint8), "classification", 5, (4,)),
        (np.array([True, False, True, False, True, False]), "classification", 2, (4,)),
        (np.array([0.0, 1, 2, 0, 1, 2]), "regression", 1, (4,)),  # as it came: a loss of theirs expects it so
        (np.zeros((6, 1)), "regression", 1, (4, 1)),
        (np.zeros((6, 3, 2), dtype=np.float16), "regression", 6, (4, 3, 2)),
        (np.ones((6, 5, 7), dtype=np.int32), "classification", 2, (4, 5, 7)),  # one label a position
        (np.full(6, -100), "classification", 1, (4,)),  # what to do with them is for the loss to say
    ],
    ids=str,
)
def test_whole_numbers_are_labels_and_others_are_values(
    y: np.ndarray, task: str, outputs: int, shape: tuple[int, ...], loaded: Callable[[Any], LabDataset]
) -> None:
    data = loaded((X[:4], y[:4], X[4:], y[4:]))
    assert (data.task, data.outputs, data.y_train.shape) == (task, outputs, shape)
    assert data.y_train.dtype in ((np.int64,) if task == "classification" else (np.float32, np.float64))


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64), (np.longdouble, np.float64),
        (np.uint8, np.uint8), (np.uint16, np.int64), (np.int32, np.int32), (np.int64, np.int64), (np.bool_, np.bool_),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_keep_a_type_that_torch_computes_with(
    dtype: Any, kept: Any, loaded: Callable[[Any], LabDataset]
) -> None:
    data = loaded((X[:4].astype(dtype), Y[:4], X[4:].astype(dtype), Y[4:]))
    assert data.x_train.dtype == kept
    assert np.array_equal(data.x_train, X[:4].astype(dtype).astype(kept))


def test_bfloat16_and_arrays_that_may_not_be_written(loaded: Callable[[Any], LabDataset]) -> None:
    x = X[:4].copy()
    x.setflags(write=False)
    data = loaded((x, Y[:4], torch.tensor(X[4:], dtype=torch.bfloat16), Y[4:]))
    assert data.x_test.dtype == np.float32
    torch.from_numpy(data.x_train)  # which warns of an array that may not be written


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "the function must return data to train and to test on.\n  got: NoneType\n" + RETURNS),
        ((X, Y, X), "the function must return data to train and to test on.\n  got: 3 values\n" + RETURNS),
        (
            (each for each in "ab"),
            "the function must return data to train and to test on.\n  got: generator\n" + RETURNS,
        ),
        (
            (X, Y),
            "each of two parts must be (x, y) or a dataset; data to test on must be there too.\n"
            "  got: array (6, 2) float32\n" + RETURNS,
        ),
        (
            (Stream(), Stream()),
            "each of two parts must be (x, y) or a dataset with a length.\n  got: Stream\n" + RETURNS,
        ),
        (
            (DataLoader(TensorDataset(*tensors()[:2])),) * 2,
            "each of two parts must be (x, y) or a dataset with a length.\n  got: DataLoader\n"
            "  fix: return loader.dataset, not the loader.",
        ),
        (
            (Pairs([[1.0], [1.0, 2.0]], [0, 1]),) * 2,
            "the samples of a dataset must be pairs (x, y) of numbers, arrays or tensors, all of one shape.\n"
            "  got: RuntimeError: each element in list of batch should be of equal size\n" + RETURNS,
        ),
        (
            ([{"x": 1.0, "y": 0}] * 3, [{"x": 1.0, "y": 0}] * 3),
            "the samples of a dataset must be pairs (x, y) of numbers, arrays or tensors, all of one shape.\n"
            "  got: 3 samples, the first dict\n" + RETURNS,
        ),
        (
            (X[:4], Y[:3], X[4:], Y[4:]),
            "`x_train` and `y_train` must have the same number of samples, and not none.\n"
            "  got: x_train (4, 2) float32; y_train (3,) int64",
        ),
        (
            (X[:4], Y[:4], X[:0], Y[:0]),
            "`x_test` and `y_test` must have the same number of samples, and not none.\n"
            "  got: x_test (0, 2) float32; y_test (0,) int64",
        ),
        (
            (X[:1], Y[:1], X[4:], Y[4:]),
            "there must be two samples to train on.\n  got: x_train (1, 2) float32",
        ),
        (
            (X[:4], Y[:4], X[4:, :1], Y[4:]),
            "`x_train` and `x_test` must be of one kind, with samples of one shape.\n"
            "  got: x_train (4, 2) float32; x_test (2, 1) float32",
        ),
        (
            (X[:4], Y[:4], X[4:], Y[4:].astype(np.float32)),
            "`y_train` and `y_test` must be of one kind, with samples of one shape.\n"
            "  got: y_train (4,) int64; y_test (2,) float32",
        ),
        (
            (np.where(X[:4] == 5, np.nan, X[:4]), Y[:4], X[4:], Y[4:]),
            "`x_train` must be finite.\n  got: 1 of 8 values are not, the first at (2, 1)\n"
            "  fix: fill or drop what is missing.",
        ),
        (
            (X[:4], Y[:4], X[4:], np.array([0.0, np.inf])),
            "`y_test` must be finite.\n  got: 1 of 2 values are not, the first at (1,)\n"
            "  fix: fill or drop what is missing.",
        ),
        (
            (X[:4], np.array(list("abca")), X[4:], np.array(list("ab"))),
            "`y_train` must be an array of numbers.\n  got: y_train (4,) <U1\n"
            "  fix: encode texts and categories as numbers.",
        ),
        (
            ([[1.0], [1.0, 2.0]], Y[:2], X[4:], Y[4:]),
            "`x_train` must be an array of numbers.\n  got: setting an array element with a sequence. The requested "
            "array has an inhomogeneous shape after 1 dimensions. The detected shape was (2,) + inhomogeneous part.",
        ),
        (
            (torch.tensor(X[:4]).to_sparse(), Y[:4], X[4:], Y[4:]),
            "`x_train` must be an array of numbers.\n  got: can't convert Sparse layout tensor to numpy. "
            "Use Tensor.to_dense() first.",
        ),
    ],
    ids=lambda value: value.partition("\n")[0] if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_is_no_data_is_refused_with_the_next_step(
    data: Any, text: str, loaded: Callable[[Any], LabDataset]
) -> None:
    assert refusal(loaded, data) == f"math:sqrt: {text}"


SEEDED = """
import random
import numpy as np
import torch

def load{signature}:
    x = np.random.rand(6, 2).astype("f4") + random.random() + float(torch.rand(())){plus}
    return x[:4], np.arange(4), x[4:], np.arange(2)
"""


@pytest.mark.parametrize(
    ("signature", "plus", "given"),
    [
        ("()", "", False),
        ("(seed)", " + seed", True),
        ("(number)", " + number", True),
        ("(*, seed=3)", " + seed", True),
        ("(root='data')", " + len(root)", False),  # a setting of their own, not a seed
        ("(path='x', seed=None)", " + seed", True),
        ("(*folders)", " + len(folders)", False),
    ],
)
def test_a_function_gets_the_seed_if_it_asks_for_it(write: Write, signature: str, plus: str, given: bool) -> None:
    """And whatever it draws is the same at the same seed."""
    name = f"{write(SEEDED.format(signature=signature, plus=plus))}:load"
    one, again, other = (own_data(name, seed) for seed in (5, 5, 6))
    assert one.sha256() == again.sha256() != other.sha256()
    assert (one.x_train.min() > 5) == given


def test_a_dataset_draws_under_the_seed_too(write: Write) -> None:
    path = write("""
        import torch
        from torch.utils.data import Dataset

        class Noisy(Dataset):
            def __len__(self):
                return 4

            def __getitem__(self, index):
                return torch.rand(2), index % 2

        def load():
            return Noisy(), Noisy()
    """)
    one, again, other = (own_data(f"{path}:load", seed) for seed in (5, 5, 6))
    assert one.sha256() == again.sha256() != other.sha256()
    assert not np.array_equal(one.x_train, one.x_test)


def test_a_function_that_asks_for_more_is_refused(write: Write) -> None:
    path = write("def load(root, size):\n    return root, size\n")
    with pytest.raises(UsageError) as caught:
        own_data(f"{path}:load", 0)
    assert str(caught.value) == (
        f"{path}:load: it raised TypeError: load() missing 2 required positional arguments: 'root' and 'size'.\n"
        "  fix: give them a default: it is called without."
    )


def test_own_data_are_loaded_like_others(write: Write) -> None:
    path = write("""
        import numpy as np

        def load():
            x = np.arange(20.0).reshape(10, 2)
            return x, x[:, 0], x, x[:, 0]
    """)
    data = load_data(f"{path}:load", 0, train_samples=5)
    assert data.x_train.dtype == np.float64
    assert data.x_train[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert len(data.x_test) == 10
