"""Data sets: plain arrays with a name and a hash."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from normlab import errors
from normlab.lab.data.blobs import blobs
from normlab.lab.data.cifar import cifar10, cifar100
from normlab.lab.data.curve import curve
from normlab.lab.data.dataset import Dataset
from normlab.lab.data.digits import digits
from normlab.lab.data.forms import FORMS, is_own
from normlab.lab.data.mnist import mnist
from normlab.lab.data.own import own_data
from normlab.lab.data.volumes import volumes

# each from the seed, or from the path of its files
LOADERS: dict[str, Callable[[int, Path], Dataset]] = {
    "digits": lambda seed, _: digits(seed),
    "curve": lambda seed, _: curve(seed),
    "blobs": lambda seed, _: blobs(seed),
    "volumes": lambda seed, _: volumes(seed),
    "mnist": lambda _, path: mnist(path, "mnist"),
    "fashion_mnist": lambda _, path: mnist(path, "fashion_mnist"),
    "cifar10": lambda _, path: cifar10(path),
    "cifar100": lambda _, path: cifar100(path),
}


def load_data(data: str, seed: int, train_samples: int = 0) -> Dataset:
    """The data set of that name.

    Args:
        data: a key of the table, or `name=PATH` of one that is read from its original files, or a function of the
            user's, `FILE.py:FUNCTION`.
        seed: decides its split or its noise; original files have a split of their own.
        train_samples: keeps so many of its training samples, spread evenly over them; 0 keeps all.

    Raises:
        UsageError: there is no such data set, its path is missing or too much, or it has fewer training samples.
        DataError: a file is missing, damaged or not what its name says.
    """
    whole = own_data(data, seed) if is_own(data) else _ours(data, seed)
    have = len(whole.x_train)
    if train_samples > have:
        problem = errors.Problem(f"`train_samples` is at most {have} for {whole.name}.", got=str(train_samples))
        raise errors.UsageError(errors.message("load_data", problem))
    if not train_samples:
        return whole
    # evenly spread, since samples may be in an order (the points of a curve)
    kept = np.arange(train_samples) * have // train_samples
    return replace(whole, x_train=whole.x_train[kept], y_train=whole.y_train[kept])


def _ours(data: str, seed: int) -> Dataset:
    name, _, path = data.partition("=")
    if name not in LOADERS:
        problem = errors.Problem(f"there is no data set `{name}`.", fix=errors.did_you_mean(name, LOADERS))
        raise errors.UsageError(errors.message("load_data", problem))
    if FORMS[name].from_files != bool(path):
        rule = "is read from its original files" if FORMS[name].from_files else "has no files"
        right = f"{name}=PATH" if FORMS[name].from_files else name
        problem = errors.Problem(f"`{name}` {rule}.", got=data, fix=f"write {right}.")
        raise errors.UsageError(errors.message("load_data", problem))
    return LOADERS[name](seed, Path(path))
