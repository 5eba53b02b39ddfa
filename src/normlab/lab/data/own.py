"""A data set of the user's: what their function may return, and how it becomes arrays."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from normlab import errors
from normlab.lab.data.dataset import Dataset
from normlab.lab.data.own_arrays import PARTS, checked, plain_array
from normlab.lab.own import called, own_function, seeded
from normlab.lab.streams import stream_seed

RETURNS = "return x_train, y_train, x_test, y_test (arrays or tensors), or two map-style torch datasets"


def own_data(name: str, seed: int) -> Dataset:
    """The data set that the user's function makes. It gets the seed if it asks for it, by a parameter named `seed` or
    as the only one that it needs; torch, NumPy and Python draw under the seed too.

    Labels are whole numbers, (N,) or one a position; anything else is a regression. The function may return four
    arrays, two pairs, two map-style datasets of torch, or a `Dataset`.

    Raises:
        UsageError: the function raises, or what it returns is not such data.
    """
    arguments, named = _seed_for(name, seed)
    with seeded(stream_seed(seed, "own data")):
        found = called(name, *arguments, **named)
        parts = dict(zip(PARTS, _four(name, found), strict=True))
    arrays = {which: plain_array(name, which, part) for which, part in parts.items()}
    labels = checked(name, arrays)
    if labels:
        arrays |= {which: arrays[which].astype(np.int64) for which in ("y_train", "y_test")}
    y_train, y_test = arrays["y_train"], arrays["y_test"]
    outputs = max(int(max(y_train.max(), y_test.max())) + 1, 1) if labels else int(np.prod(y_train.shape[1:]))
    if isinstance(found, Dataset):
        outputs = found.outputs
    return Dataset(name, "classification" if labels else "regression", outputs=outputs, **arrays)


def _seed_for(name: str, seed: int) -> tuple[list[int], dict[str, int]]:
    """How the function takes the seed, by position or by name, if it does."""
    try:
        parameters = inspect.signature(own_function(name)).parameters
    except ValueError:  # of a function that is not written in Python
        return [], {}
    if "seed" in parameters:
        by_name = parameters["seed"].kind is not inspect.Parameter.POSITIONAL_ONLY
        return ([], {"seed": seed}) if by_name else ([seed], {})
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in parameters.values() if each.kind in positional and each.default is each.empty]
    return ([seed] if len(needed) == 1 else []), {}


def _four(name: str, found: Any) -> Sequence[Any]:
    """x and y to train on, x and y to test on."""
    if isinstance(found, Dataset):
        return [getattr(found, which) for which in PARTS]
    if not isinstance(found, (tuple, list)) or len(found) not in (2, 4):
        got = f"{len(found)} values" if isinstance(found, (tuple, list)) else type(found).__name__
        raise _refused(name, "the function must return data to train and to test on.", got)
    return found if len(found) == 4 else [array for part in found for array in _pair(name, part)]


def _pair(name: str, part: Any) -> Sequence[Any]:
    """(x, y) as they are, or the samples of a map-style dataset put together."""
    if isinstance(part, (tuple, list)) and len(part) == 2:
        return part
    if hasattr(part, "shape"):
        rule = "each of two parts must be (x, y) or a dataset; data to test on must be there too."
        raise _refused(name, rule, errors.describe(array=part))
    if not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
        fix = "return loader.dataset, not the loader." if hasattr(part, "dataset") else ""
        raise _refused(name, "each of two parts must be (x, y) or a dataset with a length.", type(part).__name__, fix)
    from torch.utils.data import default_collate

    rule = "the samples of a dataset must be pairs (x, y) of numbers, arrays or tensors, all of one shape."
    try:
        samples = [part[index] for index in range(len(part))]
        pairs = all(isinstance(sample, (tuple, list)) and len(sample) == 2 for sample in samples)
        whole: Sequence[Any] = default_collate(samples) if samples and pairs else ()
    except Exception as error:  # whatever the dataset raises, or what cannot be put together
        raise _refused(name, rule, f"{type(error).__name__}: {error}") from error
    if len(whole) != 2:
        raise _refused(name, rule, f"{len(samples)} samples, the first {type(samples[0]).__name__}" if samples else "0")
    x, y = whole
    return x, y


def _refused(name: str, rule: str, got: str, fix: str = "") -> errors.UsageError:
    return errors.UsageError(errors.message(name, errors.Problem(rule, got=got, fix=fix or f"{RETURNS}.")))
