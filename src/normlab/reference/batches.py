"""The order in which samples are seen."""

import numpy as np
from jaxtyping import Int

from normlab import errors
from normlab.errors import Problem


def shuffled_batches(samples: int, *, batch: int, epochs: int, seed: int) -> list[list[Int[np.ndarray, "_"]]]:
    """All samples in a new random order in each epoch, cut into batches; the last one may be smaller.

    Args:
        samples: How many there are.
        batch: How many make a batch.
        epochs: How often all are seen.
        seed: The same seed gives the same order.

    Raises:
        InvalidInputError: A number is below 1 (epochs: below 0).

    Example:
        >>> [[chosen.tolist() for chosen in epoch] for epoch in shuffled_batches(5, batch=2, epochs=2, seed=0)]
        [[[2, 4], [3, 0], [1]], [[4, 1], [2, 0], [3]]]
    """
    least = {"samples": (samples, 1), "batch": (batch, 1), "epochs": (epochs, 0)}
    errors.invalid_input(
        "shuffled_batches",
        (
            Problem(f"`{name}` must be at least {bound}.", got=f"{name} = {value}")
            for name, (value, bound) in least.items()
            if value < bound
        ),
    )
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(samples) for _ in range(epochs))
    return [[order[at : at + batch] for at in range(0, samples, batch)] for order in orders]
