import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tests.tolerances import INVARIANT

from normlab.errors import UsageError
from normlab.lab.data import LOADERS, Dataset, blobs, curve, digits, load_data, volumes
from normlab.lab.data.forms import FORMS
from normlab.lab.data.volumes import SOLIDS, _turned
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


@pytest.mark.parametrize("name", ["digits", "curve", "blobs", "volumes"])
def test_the_seed_decides_and_the_hash_tells(name: str) -> None:
    assert load_data(name, 3).sha256() == load_data(name, 3).sha256()
    assert load_data(name, 3).sha256() != load_data(name, 4).sha256()
    assert load_data(name, 3).name == name


def test_every_form_has_a_loader_and_a_metric() -> None:
    assert LOADERS.keys() == FORMS.keys()
    assert {form.task for form in FORMS.values()} == METRICS.keys()


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


def nearest(data: Dataset) -> float:
    """Share of the test samples whose nearest class mean of the training set is their own."""
    means = np.stack([data.x_train[data.y_train == label].mean(axis=0) for label in range(10)])
    distances = np.square(data.x_test[:, None] - means).sum(axis=2)
    return float((distances.argmin(axis=1) == data.y_test).mean())


@pytest.mark.parametrize("seed", range(5))
def test_blobs_are_told_apart_only_when_the_input_is_normalized(seed: int) -> None:
    """Over 60 seeds: 90.6 to 97.6 %, and 25 to 65 % as they come."""
    data = blobs(seed)
    mean, std = data.x_train.mean(axis=0), data.x_train.std(axis=0)
    scaled = replace(data, x_train=(data.x_train - mean) / std, x_test=(data.x_test - mean) / std)
    assert 0.9 <= nearest(scaled) <= 0.98
    assert nearest(data) < 0.7
    assert std.max() / std.min() > 100
    assert np.abs(mean / std).max() > 1


@pytest.mark.parametrize(("make", "train", "test"), [(blobs, 1500, 500), (volumes, 800, 200)], ids=["blobs", "volumes"])
def test_generated_classes_are_as_many_and_in_no_order(make: Any, train: int, test: int) -> None:
    data = make(0)
    for x, y, count in ((data.x_train, data.y_train, train), (data.x_test, data.y_test, test)):
        assert len(x) == len(y) == count
        assert set(np.bincount(y)) == {count // data.outputs}
        # what `train_samples` keeps has every class
        assert len(np.unique(y[:: data.outputs])) == data.outputs


@pytest.mark.parametrize("solid", SOLIDS)
def test_every_solid_has_the_volume_of_the_ball(solid: Any) -> None:
    """A million random points in a cube of 4.2 around it, five standard errors of the share that lies inside."""
    count, cube = 1_000_000, 4.2**3
    points = np.random.default_rng(0).uniform(-2.1, 2.1, (3, 1, count))
    share, wanted = (solid(points, np.ones((1, 1))) < 0).mean(), 4 / 3 * np.pi / cube
    assert abs(share - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / count)


def test_turning_keeps_lengths_angles_and_handedness_and_reaches_everywhere() -> None:
    quaternion = np.random.default_rng(0).normal(size=(4, 500, 1))
    axes = np.broadcast_to(np.eye(3)[:, None], (3, 500, 3))  # x, y and z as the points of each sample
    turned = _turned(axes, quaternion).transpose(1, 0, 2)
    assert np.allclose(turned.transpose(0, 2, 1) @ turned, np.eye(3), atol=INVARIANT)
    assert np.allclose(np.linalg.det(turned), 1, atol=INVARIANT)
    # each entry of a random rotation has mean 0 and variance 1/3; five standard errors
    assert np.abs(turned.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 500)


def test_the_four_solids_differ_in_form_and_not_in_volume() -> None:
    data = volumes(0)
    assert len(data.x_train) == 800
    filled = data.x_train[:, 0] > 0.5  # half of the contrast over the background
    middle = np.arange(16) - 7.5
    points = np.stack(np.meshgrid(middle, middle, middle, indexing="ij"), axis=-1)
    voxels, farthest, flatness = [], [], []
    for volume in filled:
        inside = points[volume]
        centered = inside - inside.mean(axis=0)
        voxels.append(len(inside))
        # in radii of the ball of the same volume
        farthest.append(np.linalg.norm(centered, axis=1).max() / (3 / 4 / np.pi * len(inside)) ** (1 / 3))
        moments = np.linalg.eigvalsh(centered.T @ centered)
        flatness.append(moments[0] / moments[-1])
    by_class = [
        np.median(np.stack([voxels, farthest, flatness])[:, data.y_train == label], axis=1) for label in range(4)
    ]
    ball, cube, disc, tetrahedron = by_class
    assert max(row[0] for row in by_class) < 1.1 * min(row[0] for row in by_class)
    assert ball[1] < cube[1] < tetrahedron[1]
    assert disc[2] < 0.2 < 0.7 < min(ball[2], cube[2], tetrahedron[2])


def test_data_is_made_without_torch() -> None:
    code = """
import sys
from normlab.lab.data import load_data
for name in ("curve", "blobs", "volumes"):
    load_data(name, 0)
print({"torch", "sklearn"} & set(sys.modules))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
