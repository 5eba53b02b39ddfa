"""Which layers or parameters of a model a tool is asked for: by name, by pattern, or by a function of the user's."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from normlab import errors

Item = TypeVar("Item")
Where = str | Sequence[str] | Callable[[str, Item], bool] | None


def chosen(where: Where[Item], named: Iterable[tuple[str, Item]]) -> list[Item]:
    """The items that are asked for, one with several names once a name; None asks for all.

    A name stands for all that is a part of it. In a pattern `*` is any text, and `[12]` one of these characters.

    Example:
        >>> named = [("layer1.bn", 1), ("layer10.bn", 2), ("head.norm", 3)]
        >>> chosen("layer1", named), chosen("*.bn", named), chosen(lambda name, item: item > 2, named)
        ([1], [1, 2], [3])
    """
    if where is None:
        return [item for _, item in named]
    if callable(where):
        return [item for name, item in named if where(name, item)]
    patterns = [where] if isinstance(where, str) else where
    return [item for name, item in named if any(_fits(name, pattern) for pattern in patterns)]


def by_first_name(where: Where[Item], named: Sequence[tuple[str, Item]]) -> dict[str, Item]:
    """What is chosen, each once, by the first of its names.

    Example:
        >>> by_first_name("alias", [("layer1", 1), ("alias", 1), ("head", 2)])
        {'layer1': 1}
    """
    first = {item: name for name, item in reversed(named)}
    return {first[item]: item for item in chosen(where, named)}


def unmatched(argument: str, where: object, names: Sequence[str], what: str) -> list[errors.Problem]:
    """A problem for each name or pattern that fits nothing, as a slip of the pen would ask for nothing in silence."""
    if where is None or (callable(where) and not isinstance(where, type)):
        return []
    patterns = [where] if isinstance(where, str) else where
    if not isinstance(patterns, Sequence) or not all(isinstance(each, str) for each in patterns):
        rule = f"`{argument}` must be a name, names, or a function of a name and its {what}."
        return [errors.Problem(rule, got=repr(where), fix='pass for instance "layer1" or ["layer1", "*.norm2"].')]
    known = list(dict.fromkeys(part for name in names for part in _with_parents(name)))
    problems = []
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, known, n=1) or dict.fromkeys(name.split(".")[0] for name in known)
            fix = errors.did_you_mean(pattern, near) if near else f"there is no {what}."
            problems.append(errors.Problem(f"`{argument}` must name a {what}.", got=repr(pattern), fix=fix))
    return problems


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]
