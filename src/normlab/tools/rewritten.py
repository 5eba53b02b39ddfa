"""Modules with a forward in which their norms do what follows them."""

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from normlab import errors
from normlab.tools.followers import chain_of, fuse
from normlab.tools.forwards import Read, forward_of
from normlab.tools.recognized import Follows


@dataclass(frozen=True)
class Site:
    """A norm by its name within the module that calls it, and what it does after it has normalized."""

    norm: str
    follows: Follows


class Rewritten(nn.Module):
    """In front of the class of a module, has a forward of its own.

    It is made from the graph of the forward that it stands for. What is loaded in another process is given it anew,
    from the forward that is there: no code is saved.
    """

    normlab_class: type[nn.Module]  # that of the user
    normlab_sites: tuple[Site, ...]
    normlab_key: str  # of the forward; empty as long as there is none

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        state = self.__getstate__()  # type: ignore[no-untyped-call]
        return _new, (self.normlab_class, self.normlab_sites, self.normlab_key), state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.normlab_key:
            return
        with _without_hooks(self):
            found = rewritten_class(self, self.normlab_class, self.normlab_sites)
        if isinstance(found, str):
            rule = "what `accelerate_` rewrote cannot be loaded, as the forward of its class is another one now."
            problem = errors.Problem(rule, got=found, fix="build the model, load its state_dict, and accelerate it.")
            errors.invalid_input(self.normlab_class.__name__, [problem])
        else:
            self.__class__ = found  # type: ignore[assignment]


def rewritten_class(module: nn.Module, theirs: type[nn.Module], sites: tuple[Site, ...]) -> type[nn.Module] | str:
    """The class that gives a module such a forward, or why there is none.

    Args:
        module: of the class `theirs`, or of one made here of it.
        theirs: the class of the user.
        sites: the norms that are to do what follows them.
    """
    layers = dict(module.named_modules(remove_duplicate=False))
    found = forward_of(module, {layers[name] for site in sites for name in _around(site.norm)})
    if isinstance(found, str):
        return found
    for site in sites:
        norm = next((each for each in found.graph.nodes if each.op == "call_module" and each.target == site.norm), None)
        chain = "it is not called" if norm is None else chain_of(norm, layers)
        if isinstance(chain, str):
            return f"{site.norm}: {chain or 'nothing follows it'}"
        if chain.follows != site.follows:
            return f"{site.norm}: what follows it is not what it was"
        fuse(found.graph, chain)
    made = fx.GraphModule(module, found.graph)
    return _made(theirs, sites, made.code, found.reads, type(made).forward)


CLASSES: dict[tuple[type[nn.Module], str], type[nn.Module]] = {}


def _made(
    theirs: type[nn.Module], sites: tuple[Site, ...], code: str, reads: tuple[Read, ...], forward: Callable[..., Any]
) -> type[nn.Module]:
    """One class for all modules that have the same forward."""
    key = hashlib.sha256(repr((sites, code, reads)).encode()).hexdigest()
    if (theirs, key) not in CLASSES:
        CLASSES[theirs, key] = _class(theirs, sites, key, {"forward": _checked(forward, reads)})
    return CLASSES[theirs, key]


def _class(theirs: type[nn.Module], sites: tuple[Site, ...], key: str, inside: dict[str, Any]) -> type[nn.Module]:
    of_theirs = {"__module__": theirs.__module__, "__qualname__": theirs.__qualname__, "__doc__": theirs.__doc__}
    ours = {"normlab_class": theirs, "normlab_sites": sites, "normlab_key": key}
    return type(theirs.__name__, (Rewritten, theirs), of_theirs | ours | inside)


def _new(theirs: type[nn.Module], sites: tuple[Site, ...], key: str) -> nn.Module:
    """A module that has its forward if this process made one, and else is given it with its layers."""
    made = CLASSES.get((theirs, key)) or _class(theirs, sites, "", {})
    return made.__new__(made)


@contextmanager
def _without_hooks(module: nn.Module) -> Iterator[None]:
    """Hooks that somebody put there afterwards have no part in what the forward is."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    held = [(each, {name: vars(each)[name] for name in names}) for each in module.modules()]
    try:
        for each, _ in held:
            vars(each).update({name: OrderedDict() for name in names})
        yield
    finally:
        for each, hooks in held:
            vars(each).update(hooks)


def _checked(forward: Callable[..., Any], reads: tuple[Read, ...]) -> Callable[..., Any]:
    """The forward, if what it was made with still holds."""
    if not reads:
        return forward

    @functools.wraps(forward)
    def checked(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        for read in reads:
            now = getattr(self.get_submodule(read.path), read.name)
            if type(now) is not type(read.value) or now != read.value:
                _refuse(self, read, now)
        return forward(self, *args, **kwargs)

    return checked


def _refuse(module: nn.Module, read: Read, now: Any) -> None:
    name = f"{read.path}.{read.name}".lstrip(".")
    rule = f"`{name}` is part of the forward that `accelerate_` rewrote, and cannot be changed afterwards."
    got = f"{now!r}, which was {read.value!r}"
    errors.invalid_input(type(module).__name__, [errors.Problem(rule, got=got, fix="set it before `accelerate_`.")])


def _around(norm: str) -> Iterator[str]:
    """The names of the modules that a norm stands in, within the one that calls it."""
    parts = norm.split(".")[:-1]
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])
