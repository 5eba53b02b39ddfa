import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from normlab.errors import UsageError
from normlab.lab.data import LOADERS, Dataset, curve, digits, load_data
from normlab.lab.metric import METRICS


@pytest.fixture(scope="module")
def images() -> Dataset:
    return digits(0)


def test_digits_are_split_once_and_nothing_is_lost(images: Dataset) -> None:
    assert images.x_train.shape == (1437, 1, 8, 8)
    assert images.x_test.shape == (360, 1, 8, 8)
    assert (images.x_train.dtype, images.y_train.dtype) == (np.float32, np.int64)
    bunch = load_digits()
    whole = [(row.tobytes(), int(y)) for row, y in zip(bunch.images.astype(np.float32), bunch.target, strict=True)]
    x, y = np.concatenate([images.x_train, images.x_test]), np.concatenate([images.y_train, images.y_test])
    split = [(row.tobytes(), int(label)) for row, label in zip(16 * x, y, strict=True)]
    assert sorted(split) == sorted(whole)


def test_pixels_lie_between_nought_and_one(images: Dataset) -> None:
    assert images.x_train.min() == 0.0
    assert images.x_train.max() == 1.0


def test_every_digit_is_tested_in_proportion(images: Dataset) -> None:
    """A fifth of each digit, less than one sample off."""
    train, test = np.bincount(images.y_train, minlength=10), np.bincount(images.y_test, minlength=10)
    assert np.all(np.abs(test - 360 / 1797 * (train + test)) < 1)
    assert images.outputs == 10


@pytest.mark.parametrize("name", ["digits", "curve"])
def test_the_seed_decides_and_the_hash_tells(name: str) -> None:
    assert load_data(name, 3).sha256() == load_data(name, 3).sha256()
    assert load_data(name, 3).sha256() != load_data(name, 4).sha256()
    assert load_data(name, 3).name == name
    assert LOADERS.keys() == METRICS.keys()


def test_fewer_training_samples_are_spread_over_the_set() -> None:
    whole, few = load_data("curve", 0), load_data("curve", 0, 4)
    assert np.array_equal(few.x_train, whole.x_train[[0, 500, 1000, 1500]])
    assert np.array_equal(few.y_train, whole.y_train[[0, 500, 1000, 1500]])
    assert np.array_equal(few.x_test, whole.x_test)
    with pytest.raises(UsageError) as raised:
        load_data("digits", 0, 2000)
    assert str(raised.value) == "load_data: `train_samples` is at most 1437 for digits.\n  got: 2000"


def test_the_hash_sees_every_array_its_shape_and_its_type() -> None:
    one = np.arange(4, dtype=np.float32).reshape(2, 2)

    def of(*arrays: np.ndarray) -> str:
        return Dataset("x", "regression", *arrays, outputs=1).sha256()

    same = of(one, one, one, one)
    others = [
        of(*(one + (place == changed) for place in range(4)))  # each array in its turn
        for changed in range(4)
    ]
    others += [of(one.reshape(4, 1), one, one, one), of(one.view(np.int32), one, one, one)]
    assert len({same, *others}) == 7
    assert of(np.asfortranarray(one), one, one, one) == same


def test_the_curve_is_a_parabola_with_noise_of_deviation_two() -> None:
    found = curve(0)
    assert found.x_train.shape == found.y_train.shape == (2000, 1)
    assert found.x_test.shape == found.y_test.shape == (200, 1)
    assert np.array_equal(found.x_train, np.linspace(-7, 10, 2000)[:, None].astype(np.float32))
    assert np.array_equal(found.x_test, np.linspace(-7, 10, 200)[:, None].astype(np.float32))
    for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        noise = y.astype(np.float64) - (x.astype(np.float64) ** 2 - 5)
        count = len(noise)
        # five standard errors: of a mean 2/√n, of a standard deviation 2/√(2n)
        assert abs(noise.mean()) < 5 * 2 / np.sqrt(count)
        assert abs(noise.std() - 2) < 5 * 2 / np.sqrt(2 * count)
        assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 5 / np.sqrt(count)


def test_the_curve_is_made_without_torch() -> None:
    code = """
import sys
from normlab.lab.data import load_data
load_data("curve", 0)
print({"torch", "sklearn"} & set(sys.modules))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
