"""The four parts of the user's data as arrays that a run can take, checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from normlab import errors

PARTS = ("x_train", "y_train", "x_test", "y_test")


def plain_array(name: str, which: str, value: Any) -> np.ndarray:
    """Numbers as float32 or float64, whole numbers in a type that torch computes with, truth values as they are.

    Args:
        name: the user's function.
        which: the part of the data that this is.
        value: an array, a tensor, or what NumPy makes an array of.

    Raises:
        UsageError: it is not an array of finite numbers.
    """
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _refused(name, f"`{which}` must be an array of numbers.", str(error).partition("\n")[0]) from error
    if array.dtype.kind not in "iubf" or array.ndim == 0:
        got = errors.describe(**{which: array})
        raise _refused(name, f"`{which}` must be an array of numbers.", got, "encode texts and categories as numbers.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        got = f"{len(bad)} of {array.size} values are not, the first at {tuple(bad[0].tolist())}"
        raise _refused(name, f"`{which}` must be finite.", got, "fill or drop what is missing.")
    match array.dtype.kind, array.dtype.itemsize:
        case "f", size if size not in (4, 8):
            array = array.astype(np.float32 if size < 4 else np.float64)
        case "u", size if size > 1:
            array = array.astype(np.int64)
    # torch wants the byte order of the machine, and an array that it may write to
    return np.require(array, array.dtype.newbyteorder("="), requirements="W")


def checked(name: str, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether the data are labels; otherwise they are values.

    Raises:
        UsageError: the four do not fit one another.
    """
    for which in ("train", "test"):
        x, y = arrays[f"x_{which}"], arrays[f"y_{which}"]
        if not len(x) or len(x) != len(y):
            rule = f"`x_{which}` and `y_{which}` must have the same number of samples, and not none."
            raise _refused(name, rule, errors.describe(**{f"x_{which}": x, f"y_{which}": y}))
    kinds = {arrays[which].dtype.kind in "iub" for which in ("y_train", "y_test")}
    for one, other in (("x_train", "x_test"), ("y_train", "y_test")):
        if arrays[one].shape[1:] != arrays[other].shape[1:] or (one == "y_train" and len(kinds) > 1):
            rule = f"`{one}` and `{other}` must be of one kind, with samples of one shape."
            raise _refused(name, rule, errors.describe(**{one: arrays[one], other: arrays[other]}))
    if len(arrays["x_train"]) < 2:
        raise _refused(name, "there must be two samples to train on.", errors.describe(x_train=arrays["x_train"]))
    return kinds == {True}


def _refused(name: str, rule: str, got: str, fix: str = "") -> errors.UsageError:
    return errors.UsageError(errors.message(name, errors.Problem(rule, got=got, fix=fix)))
