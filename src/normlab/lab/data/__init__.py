"""Data sets: plain arrays with a name and a hash."""

from dataclasses import replace

import numpy as np

from normlab import errors
from normlab.lab.data.curve import curve
from normlab.lab.data.dataset import Dataset
from normlab.lab.data.digits import digits

LOADERS = {"digits": digits, "curve": curve}


def load_data(name: str, seed: int, train_samples: int = 0) -> Dataset:
    """The data set of that name.

    Args:
        name: a key of the table.
        seed: decides its split or its noise.
        train_samples: keeps so many of its training samples, spread evenly over them; 0 keeps all.

    Raises:
        UsageError: it has fewer training samples.
    """
    data = LOADERS[name](seed)
    have = len(data.x_train)
    if train_samples > have:
        problem = errors.Problem(f"`train_samples` is at most {have} for {name}.", got=str(train_samples))
        raise errors.UsageError(errors.message("load_data", problem))
    if not train_samples:
        return data
    # evenly spread, since samples may be in an order (the points of a curve)
    kept = np.arange(train_samples) * have // train_samples
    return replace(data, x_train=data.x_train[kept], y_train=data.y_train[kept])
