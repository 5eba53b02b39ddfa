"""Functions of the user's: `FILE.py:FUNCTION` or `MODULE:FUNCTION`."""

import contextlib
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from normlab import errors
from normlab.lab.own_files import file_hash as file_hash
from normlab.lab.own_files import imported, neighbours, own_file
from normlab.lab.own_sources import OURS


def own_function(name: str, asked_by: str = "compare") -> Callable[..., Any]:
    """The function of that name, imported.

    Args:
        name: `FILE.py:FUNCTION` or `MODULE:FUNCTION`.
        asked_by: the command that it was given to, which begins a message.

    Raises:
        UsageError: there is no such file, module or function, or importing it fails; the text says where.

    Example:
        >>> own_function("math:sqrt")(4.0)
        2.0
    """
    where, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        problem = errors.Problem("a function is written FILE.py:FUNCTION or MODULE:FUNCTION.", got=name)
        raise errors.UsageError(errors.message(asked_by, problem))
    if where.endswith(".py") and not Path(where).is_file():
        problem = errors.Problem(f"there is no file {where}.", fix="write FILE.py:FUNCTION.")
        raise errors.UsageError(errors.message(asked_by, problem))
    with seeded(0), said_in_its_words(name):  # what a file draws as it is imported, at whichever call that is
        module = imported(where)
    found = getattr(module, function, None)
    if not callable(found):
        functions = [
            each
            for each, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__ and not each.startswith("_")
        ]
        fix = errors.did_you_mean(function, functions) if functions else "define it there."
        problem = errors.Problem(f"{where} has no function `{function}`.", fix=fix)
        raise errors.UsageError(errors.message(name, problem))
    function_found: Callable[..., Any] = found
    return function_found


def called(name: str, *arguments: Any, **named: Any) -> Any:
    """What the user's function returns.

    Raises:
        UsageError: it raises; the text names the line.
    """
    function = own_function(name)
    with said_in_its_words(name):
        return function(*arguments, **named)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The random streams of torch, NumPy and Python under a seed; as they were before it afterwards."""
    import torch  # takes three seconds, and records are read without it

    from normlab.lab.random_states import random_states, set_random_states

    before = random_states()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        set_random_states(before)


@contextlib.contextmanager
def said_in_its_words(name: str) -> Iterator[None]:
    """What the user's code raises becomes a UsageError that names their line, and what it prints goes to stderr."""
    try:
        with neighbours(name.rpartition(":")[0]), contextlib.redirect_stdout(sys.stderr):
            yield
    except errors.UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise errors.UsageError(errors.message(name, raised(name, error))) from error


def raised(name: str, error: BaseException) -> errors.Problem:
    """An error in the user's code, with the last line of theirs on the way to it."""
    text = str(error).strip().rstrip(".")
    rule = f"it raised {type(error).__name__}{': ' if text else ''}{text}."
    if isinstance(error, SyntaxError) and error.filename:
        return errors.Problem(rule, got=f"{error.filename}, line {error.lineno}")
    path = own_file(name.rpartition(":")[0])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if path and _is_theirs(frame.filename, path)]
    if frames:
        return errors.Problem(rule, got=f"{frames[-1].filename}, line {frames[-1].lineno}")
    needs = isinstance(error, TypeError) and "required" in text
    return errors.Problem(rule, fix="give them a default: it is called without." if needs else "")


def _is_theirs(file: str, own: Path) -> bool:
    path = Path(file).resolve()
    if path.is_relative_to(OURS) or not path.is_relative_to(own.parent):
        return False
    return path == own or "site-packages" not in path.relative_to(own.parent).parts
