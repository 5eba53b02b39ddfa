"""Weights into the model that they belong to, all of them or none."""

import difflib
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from normlab import errors
from normlab.tools.weights import LOAD, Weights

PREFIXES = ("module.", "_orig_mod.")  # what DistributedDataParallel, AveragedModel and torch.compile put before names
NAMED = 3  # names in a message
REBUILD = "give the function that makes the model which these weights are of."
State = Mapping[str, object]


def load_weights_(model: nn.Module, weights: Weights, where: str = "load_weights_") -> tuple[str, ...]:
    """Puts the weights of a file into a model, strictly: each has its place, and each place its weight.

    Prefixes that a wrapper puts before every name are taken off. A tensor that the model has under two names may be in
    the file under one, and the counter of batches, which old files have not, may be missing.

    Args:
        model: into which they go; bit-equal to before if this raises.
        weights: out of a file.
        where: begins the message of an error: the name of the file.

    Returns:
        What had to be done, in words.

    Raises:
        InvalidInputError: weights are missing, left over or of another shape.

    Differs from torch:
        `load_state_dict` wants shared tensors under each name, and leaves a model half loaded when it raises.

    Example:
        >>> load_weights_(nn.Linear(2, 2, bias=False), Weights({"module.weight": torch.eye(2)}))
        ('took `module.` off every name',)
    """
    own = model.state_dict()
    given, notes = _unwrapped(weights.tensors, own)
    errors.invalid_input(where, _misshapen(own, given))
    before = {name: each.clone() for name, each in own.items() if isinstance(each, torch.Tensor)}
    found = model.load_state_dict(given, strict=False)
    missing = [name for name in found.missing_keys if not _comes_by_another_name(name, own, given)]
    problems = _misnamed(missing, found.unexpected_keys, weights.metadata)
    if problems:
        model.load_state_dict(before, strict=False)
    errors.invalid_input(where, problems)
    return (*notes, *_cast(own, given))


def _unwrapped(given: Mapping[str, torch.Tensor], own: State) -> tuple[dict[str, torch.Tensor], list[str]]:
    found, notes = dict(given), []
    if "n_averaged" in found and "n_averaged" not in own:  # of an AveragedModel
        notes.append(f"left out `n_averaged`: the weights are an average of {int(found.pop('n_averaged'))}")
    while not found.keys() & own.keys() and (prefix := next((each for each in PREFIXES if _all_have(each, found)), "")):
        found = {name.removeprefix(prefix): each for name, each in found.items()}
        notes.append(f"took `{prefix}` off every name")
    return found, notes


def _all_have(prefix: str, names: Iterable[str]) -> bool:
    has = [name.startswith(prefix) for name in names]
    return bool(has) and all(has)


def _comes_by_another_name(name: str, own: State, given: State) -> bool:
    mine = own.get(name)
    return isinstance(mine, torch.Tensor) and any(
        isinstance(each, torch.Tensor)
        and other in given
        and (each.data_ptr(), each.shape) == (mine.data_ptr(), mine.shape)
        for other, each in own.items()
    )


def _misnamed(missing: list[str], extra: list[str], metadata: Mapping[str, str]) -> list[errors.Problem]:
    if not missing and not extra:
        return []
    parts = (("missing", missing), ("left over", extra))
    got = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in parts if names)
    near = ((name, close[0]) for name in missing if (close := difflib.get_close_matches(name, extra, n=1)))
    fix = next((f"rename `{there}` to `{name}`, or {REBUILD}" for name, there in near), REBUILD)
    if metadata.get(LOAD):
        fix = f"they are to be loaded {metadata[LOAD]}."
    return [errors.Problem("the names in the file must be those of the model.", got=got, fix=fix)]


def _misshapen(own: State, given: State) -> list[errors.Problem]:
    wrong = [
        f"{name} {tuple(each.shape)}, in the model {tuple(mine.shape)}"
        for name, each in given.items()
        if isinstance(mine := own.get(name), torch.Tensor)
        and isinstance(each, torch.Tensor)
        and each.shape != mine.shape
    ]
    rule = "the weights must have the shapes that they have in the model."
    return [errors.Problem(rule, got=_some(wrong, "; "), fix=REBUILD)] if wrong else []


def _cast(own: State, given: State) -> list[str]:
    """What is said of a file that is written back in another precision than it was read in."""
    pairs = [(own.get(name), each) for name, each in given.items()]
    found = {
        (str(each.dtype), str(mine.dtype))
        for mine, each in pairs
        if isinstance(mine, torch.Tensor) and isinstance(each, torch.Tensor) and mine.dtype != each.dtype
    }
    return [f"weights in {old} became {new}, as the model has them".replace("torch.", "") for old, new in sorted(found)]


def _some(names: list[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more
