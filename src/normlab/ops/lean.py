"""Outputs of norms that are computed again in backward, instead of being kept: half of what a network stores."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

_scope = threading.local()

Make = Callable[[Tensor | None], Tensor]  # an output, of the residual


class _Recipe:
    """How an output is made again from what its norm keeps: to the bit, as the same kernel does it."""

    def __init__(self, make: Make, needs: Sequence[Tensor | None], residual: "Tensor | _Recipe | None") -> None:
        self.make, self.residual = make, residual
        kept = [*needs, residual if isinstance(residual, Tensor) else None]
        self.needs = [(each, each._version) for each in kept if each is not None]
        self.made: Callable[[], Tensor | None] = lambda: None

    def __call__(self) -> Tensor:
        """For each layer that kept the output; once, if they need it at the same time."""
        y = self.made()
        if y is None:
            if any(each._version != version for each, version in self.needs):
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an inplace operation: "
                    "the input or a parameter of a norm, from which `normlab.lean` computes its output again"
                )
            with torch.no_grad():
                y = self.make(self.residual() if isinstance(self.residual, _Recipe) else self.residual)
            self.made = weakref.ref(y)
        return y


class _Known(NamedTuple):
    """An output whose recipe is known, as long as its memory lives."""

    memory: StorageWeakRef
    looks: tuple[Any, ...]
    recipe: _Recipe


class _Kept:
    """What is known within one scope, by the memory of the output."""

    def __init__(self) -> None:
        self.known: dict[int, _Known] = {}

    def note(self, y: Tensor, recipe: _Recipe) -> None:
        self.forget()
        memory = StorageWeakRef(y.untyped_storage())
        self.known[memory.cdata] = _Known(memory, _looks(y), recipe)

    def pack(self, saved: Tensor) -> Tensor | _Recipe:
        """What autograd keeps in the place of a tensor."""
        found = self.known.get(saved.untyped_storage()._cdata) if saved.layout == torch.strided else None
        return saved if found is None or found.looks != _looks(saved) else found.recipe

    def forget(self) -> None:
        """What nobody holds anymore; an address that is watched is not given to another memory before that."""
        for address in [each for each, known in self.known.items() if known.memory.expired()]:
            del self.known[address]


@contextmanager
def lean() -> Iterator[None]:
    """Forwards within this context keep less for backward: the output of a norm, with the activation that follows it in
    the same kernel, is computed again from the input of the norm, which is kept anyway.

    Gradients are the same to the bit, and backward may come after the context. It serves where our kernels compute the
    norm, so for large tensors on the processor, and where the next layer keeps that output itself, as convolutions and
    linear layers do. Of residual blocks in a row every other sum is kept, from which the next one is made. Nothing
    changes within `torch.utils.checkpoint`, which keeps nothing, and in what `torch.compile` has compiled, which
    decides for itself.
    `normlab.accelerate_(model, lean=True)` does the same for each forward of a model.

    Example:
        >>> from normlab.layers import BatchNormAct2d
        >>> model = torch.nn.Sequential(BatchNormAct2d(16), torch.nn.Conv2d(16, 4, 3))
        >>> with lean():
        ...     y = model(torch.randn(8, 16, 32, 32))
        >>> y.backward(torch.randn_like(y))
    """
    kept, before = _Kept(), getattr(_scope, "kept", None)
    _scope.kept = kept
    try:
        with torch.autograd.graph.saved_tensors_hooks(kept.pack, _unpack):
            yield
    finally:
        _scope.kept = before


def stay_lean(module: nn.Module) -> None:
    """Each forward of a module keeps less, as within `lean`; once is enough."""
    if _begin not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(_begin)
        module.register_forward_hook(_end, always_call=True)


def _begin(module: nn.Module, given: Any) -> None:
    scope = lean()
    scope.__enter__()
    _scope.entered = [*getattr(_scope, "entered", []), (module, scope)]


def _end(module: nn.Module, given: Any, output: Any) -> None:
    """Also after a forward that raised, even before `_begin`."""
    entered = getattr(_scope, "entered", [])
    if entered and entered[-1][0] is module:
        _scope.entered = entered[:-1]
        entered[-1][1].__exit__(None, None, None)


def remember(y: Tensor, make: Make, needs: Sequence[Tensor | None], residual: Tensor | None) -> None:
    """Tells the scope how an output can be made again.

    A sum with a residual that is such a sum itself, and not kept, is kept: or backward would go through all blocks of a
    network for each of them.

    Args:
        y: the output.
        make: makes it of the residual, to the bit.
        needs: what else it is made of, and what must not have changed until then.
        residual: what was added; None for nothing.
    """
    if not is_lean():
        return
    kept: _Kept = _scope.kept
    added = None if residual is None else kept.pack(residual.detach())
    if not (isinstance(added, _Recipe) and added.residual is not None):
        kept.note(y, _Recipe(make, needs, added))


def is_lean() -> bool:
    """Whether outputs are to be remembered by their recipes."""
    return getattr(_scope, "kept", None) is not None and torch.is_grad_enabled()


def _unpack(packed: Tensor | _Recipe) -> Tensor:
    return packed() if isinstance(packed, _Recipe) else packed


def _looks(y: Tensor) -> tuple[Any, ...]:
    return y.shape, y.stride(), y.storage_offset(), y.dtype, y._version
