"""The one place where messages are put into words.

A message names the function, states the rule, shows what arrived and what to do next:

    batch_norm: `weight` must have shape (64,), one entry per channel of `x`.
      got: weight (32,) float32 cpu; x (8, 64, 14, 14) float32 cpu
      fix: build the layer as BatchNorm2d(64).

Callers collect every problem they find and raise once. The exceptions carry the finished text as their only
argument, so they cross process borders unchanged.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class NormlabError(Exception):
    """Base of every error that normlab raises on purpose."""


class InvalidInputError(NormlabError, ValueError):
    """An argument breaks a rule of the function it was given to."""


class UsageError(NormlabError, ValueError):
    """A word on the command line, or a key of a config, that does not exist or does not fit. Exit code 2."""


class RecordError(NormlabError):
    """A recorded file is missing, damaged or from another version."""


class DataError(NormlabError):
    """A data file is missing, damaged or not what its name says."""


@dataclass(frozen=True)
class Problem:
    """One broken rule: what must hold, what arrived instead, and the next step."""

    rule: str
    got: str = ""
    fix: str = ""


def message(where: str, *problems: Problem) -> str:
    """Puts one or more problems into words.

    Example:
        >>> print(message("dropout", Problem("`p` must lie in [0, 1].", got="p = 1.5", fix="pass 0.5.")))
        dropout: `p` must lie in [0, 1].
          got: p = 1.5
          fix: pass 0.5.
    """
    lines = []
    for problem in problems:
        lines.append(f"{where}: {problem.rule}")
        if problem.got:
            lines.append(f"  got: {problem.got}")
        if problem.fix:
            lines.append(f"  fix: {problem.fix}")
    return "\n".join(lines)


def invalid_input(where: str, problems: Iterable[Problem]) -> None:
    """Raises `InvalidInputError` with every problem in one message; does nothing when there is none."""
    found = tuple(problems)
    if found:
        raise InvalidInputError(message(where, *found))


def describe(**arrays: Any) -> str:
    """Shape, dtype and (for tensors) device of each array, by name.

    Example:
        >>> import numpy as np
        >>> describe(x=np.zeros((8, 3)), weight=None)
        'x (8, 3) float64; weight None'
    """
    return "; ".join(f"{name} {_describe(value)}" for name, value in arrays.items())


def _describe(value: Any) -> str:
    if not hasattr(value, "shape"):
        return repr(value)
    dtype = str(value.dtype).removeprefix("torch.")
    device = getattr(getattr(value, "device", None), "type", "")  # a NumPy array has no device worth naming
    return f"{tuple(value.shape)} {dtype} {device}".rstrip()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The next step for an unknown name: the nearest known one, or the whole list.

    Example:
        >>> did_you_mean("optimiser.lr", ["optimizer.lr", "epochs"])
        'did you mean `optimizer.lr`?'
        >>> did_you_mean("zzz", ["batch", "layer"])
        'choose one of: batch, layer.'
    """
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"choose one of: {', '.join(names)}."
