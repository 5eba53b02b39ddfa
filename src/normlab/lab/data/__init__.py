"""Data sets: plain arrays with a name and a hash."""

from normlab.lab.data.curve import curve
from normlab.lab.data.dataset import Dataset, Task
from normlab.lab.data.digits import digits

LOADERS = {"digits": digits, "curve": curve}
TASKS: dict[str, Task] = {"digits": "classification", "curve": "regression"}


def load_data(name: str, seed: int) -> Dataset:
    """The data set of that name; `seed` decides its split or its noise."""
    return LOADERS[name](seed)
