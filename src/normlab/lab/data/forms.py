"""What is known of each data set before it is loaded, so that a config can be checked without loading it."""

import math
from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Form:
    """Its task, the shape of one sample (D,) or (C, *), and the number of outputs that a network for it has."""

    task: Task
    shape: tuple[int, ...]
    outputs: int
    from_files: bool = False  # written `name=PATH`: its original files are the user's

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return math.prod(self.shape)

    @property
    def spatial(self) -> int:
        """Dimensions of the positions: 2 of an image."""
        return len(self.shape) - 1


FORMS = {
    "digits": Form("classification", (1, 8, 8), 10),
    "curve": Form("regression", (1,), 1),
    "blobs": Form("classification", (20,), 10),
    "volumes": Form("classification", (1, 16, 16, 16), 4),
    "mnist": Form("classification", (1, 28, 28), 10, from_files=True),
    "fashion_mnist": Form("classification", (1, 28, 28), 10, from_files=True),
    "cifar10": Form("classification", (3, 32, 32), 10, from_files=True),
    "cifar100": Form("classification", (3, 32, 32), 100, from_files=True),
}


def is_own(data: str) -> bool:
    """Whether this names a function of the user's: `my.py:load`.

    Example:
        >>> is_own("my.py:load"), is_own("cifar10=/data/cifar"), is_own("digits")
        (True, False, False)
    """
    return ":" in data and "=" not in data


def form_of(data: str) -> Form | None:
    """The form of the data set of that name; None of the user's own, which is known when it is loaded.

    Example:
        >>> form_of("cifar10=/data/cifar").outputs
        10
    """
    return None if is_own(data) else FORMS[data.partition("=")[0]]
