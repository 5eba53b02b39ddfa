"""Generated: small volumes, each with one solid in it, to be told apart by its form alone."""

from collections.abc import Callable

import numpy as np

from normlab.lab.data.dataset import Dataset
from normlab.lab.streams import numpy_stream

SIDE = 16
TRAIN, TEST = 800, 200
SHIFT = 2.0  # largest distance of the centre from the middle along each axis, in voxels
RADIUS = (3.5, 4.5)  # of the ball of the same volume: the sum of a volume says nothing about the class
BACKGROUND, CONTRAST, NOISE = (-0.1, 0.1), (0.8, 1.2), 0.1

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _ball(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    x, y, z = points
    distance: np.ndarray = np.sqrt(x * x + y * y + z * z) - radius
    return distance


def _cube(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.abs(points).max(axis=0) - (np.pi / 6) ** (1 / 3) * radius
    return distance


def _cylinder(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """A disc: a quarter of its radius is half its height."""
    x, y, z = points
    own = (8 / 3) ** (1 / 3) * radius
    distance: np.ndarray = np.maximum(np.sqrt(x * x + y * y) - own, np.abs(z) - own / 4)
    return distance


def _tetrahedron(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    x, y, z = points
    faces = (x + y + z, x - y - z, y - x - z, z - x - y)
    distance: np.ndarray = np.maximum.reduce(faces) / np.sqrt(3) - (np.pi / np.sqrt(108)) ** (1 / 3) * radius
    return distance


# distance of points (3, N, voxels) from the surface, negative inside, of the solid with the volume of that ball
SOLIDS: tuple[Distance, ...] = (_ball, _cube, _cylinder, _tetrahedron)


def volumes(seed: int) -> Dataset:
    """800 volumes of 16 × 16 × 16 to train on and 200 to test on: a ball, a cube, a cylinder or a tetrahedron.

    Centre, size, orientation, contrast and background differ from sample to sample, and every voxel has noise; the
    four solids have the same distribution of volumes, so that it is not the sum that tells them apart.

    Shape:
        x: (N, 1, 16, 16, 16) float32. y: (N,) int64.
    """
    draws = numpy_stream(seed, "volumes")
    return Dataset("volumes", "classification", *_part(TRAIN, draws), *_part(TEST, draws), outputs=len(SOLIDS))


def _part(count: int, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = draws.permutation(np.arange(count) % len(SOLIDS))
    points = _turned(_grid() - draws.uniform(-SHIFT, SHIFT, (3, count, 1)), draws.normal(size=(4, count, 1)))
    radius = draws.uniform(*RADIUS, (count, 1))
    share = np.empty(points.shape[1:])
    for label, distance in enumerate(SOLIDS):
        chosen = labels == label
        # a voxel that the surface passes through is filled in part
        share[chosen] = np.clip(0.5 - distance(points[:, chosen], radius[chosen]), 0, 1)
    background, contrast = draws.uniform(*BACKGROUND, (count, 1)), draws.uniform(*CONTRAST, (count, 1))
    x = background + contrast * share + draws.normal(0, NOISE, share.shape)
    return x.astype(np.float32).reshape(count, 1, SIDE, SIDE, SIDE), labels.astype(np.int64)


def _grid() -> np.ndarray:
    """Places of the voxels, (3, 1, voxels), from the middle."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, 1, -1)


def _turned(points: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Each sample's points, turned by its quaternion: of normal numbers, every orientation is equally likely.

    Written out rather than as a matrix product, whose last bits depend on the BLAS of the machine.
    """
    a, b, c, d = quaternion / np.sqrt((quaternion * quaternion).sum(axis=0))
    x, y, z = points
    return np.stack(
        [
            (a * a + b * b - c * c - d * d) * x + 2 * (b * c - a * d) * y + 2 * (b * d + a * c) * z,
            2 * (b * c + a * d) * x + (a * a - b * b + c * c - d * d) * y + 2 * (c * d - a * b) * z,
            2 * (b * d - a * c) * x + 2 * (c * d + a * b) * y + (a * a - b * b - c * c + d * d) * z,
        ]
    )
