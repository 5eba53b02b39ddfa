"""Batches, in whatever form they come, passed through a model."""

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import nn

from normlab import errors
from normlab.tools.recalibrate_fit import other_order
from normlab.tools.recalibrate_watch import Enough, Watch

Batches = Iterable[Any] | Callable[[], Iterable[Any]]
Call = Callable[[Any, Any], Any]
# Two passes differ in what enters the first norm by more than this part of its size if other batches came: by
# 1 / √values or so. Another order, with the roundings of another kernel, is far below.
ALIKE = 1e-5


def call_by_structure(model: nn.Module, batch: Any) -> Any:
    """`model(batch)`; of a pair, as loaders give it with the labels, the first; of a dictionary, each by its name.

    Example:
        >>> call_by_structure(nn.Flatten(), (torch.ones(1, 2, 2), torch.ones(1))).shape
        torch.Size([1, 4])
    """
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, (tuple, list)):
        return call_by_structure(model, batch[0])
    return model(batch)


def moved(value: Any, device: torch.device) -> Any:
    """Every tensor inside, on that device; a structure of a type of its own is asked to move itself."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if type(value) in (tuple, list):
        return type(value)(moved(each, device) for each in value)
    if type(value) is dict:
        return {key: moved(each, device) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(moved(each, device) for each in value)
    return value.to(device) if callable(getattr(value, "to", None)) else value


@dataclass
class Passes:
    """Passes over the batches, each from the same random state: a loader that shuffles gives them in the same order.

    Not so one that draws elsewhere: `alike` says whether, as far as can be seen, the same values came in each pass.
    """

    model: nn.Module
    batches: Batches
    call: Call
    max_batches: int | None = None
    progress: bool = False
    alike: bool = True
    _random: torch.Tensor = field(default_factory=torch.get_rng_state)
    _bar: Progress | None = None
    _passes: int = 0
    _first: tuple[int, tuple[float, float]] = (0, (0.0, 0.0))  # batches and sums of the first pass
    _iterator: Iterator[Any] | None = None

    def over(self, watch: Watch, what: str) -> tuple[int, list[tuple[str, ...]]]:
        """One pass; how many batches there were, and each order in which norms were called in one."""
        torch.set_rng_state(self._random)
        orders: dict[tuple[str, ...], None] = {}
        device = _device(self.model)
        inner = _inner(self.model)
        watch.batch = 0
        self._show(0, what)
        iterator = fresh(self.batches)
        with _eager(self.model):
            for batch in itertools.islice(iterator, self.max_batches):
                watch.called.clear()
                with suppress(Enough):
                    self.call(inner, batch if device is None else moved(batch, device))
                orders[tuple(watch.called)] = None
                watch.batch += 1
                self._show(watch.batch)
        self._compare(watch, iterator)
        return watch.batch, list(orders)

    def _compare(self, watch: Watch, iterator: Iterator[Any]) -> None:
        """Of a later pass with the first one."""
        self._passes += 1
        if self._passes == 1:
            self._first, self._iterator = (watch.batch, watch.sums), iterator
            return
        count, (total, size) = self._first
        # a class of Python's own may begin anew when it is asked for itself; generators and the like never do
        again = iterator is self._iterator and not inspect.isfunction(type(iterator).__iter__)
        if watch.batch != count or (again and count):
            which = "the second" if self._passes == 2 else f"pass {self._passes}"
            got = f"{count} batch{'' if count == 1 else 'es'} in the first pass, {watch.batch} in {which}"
            problem = errors.Problem(
                "`batches` must begin anew for each layer.",
                got=got + (f", which goes on with the same {type(iterator).__name__}" if again else ""),
                fix=f"pass a list, a loader that begins anew{other_order(watch.tool)}.",
            )
            errors.invalid_input(watch.tool, [problem])
        self.alike &= abs(watch.sums[0] - total) <= ALIKE * size

    @contextmanager
    def shown(self) -> Iterator[None]:
        """A bar on stderr inside the block, if one is wanted."""
        if not self.progress:
            yield
            return
        with Progress(console=Console(stderr=True)) as self._bar:
            self._bar.add_task("recalibrating")
            try:
                yield
            finally:
                self._bar = None

    def _show(self, done: int, what: str = "") -> None:
        if self._bar is None:
            return
        if not done:
            total = min((each for each in (_count(self.batches), self.max_batches) if each is not None), default=None)
            self._bar.reset(TaskID(0), total=total, description=what)
        self._bar.update(TaskID(0), completed=done)


def fresh(batches: Batches) -> Iterator[Any]:
    """The batches from the first one on."""
    return iter(batches if isinstance(batches, Iterable) else batches())


def _count(batches: Batches) -> int | None:
    """How many there are, if that is known."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:  # also of a loader whose data has no length
        return None


def _device(model: nn.Module) -> torch.device | None:
    """Where the model is; None if it is nowhere or in several places, and the batches stay where they are."""
    found = {each.device for each in (*model.parameters(), *model.buffers())}
    return found.pop() if len(found) == 1 else None


def _inner(model: nn.Module) -> nn.Module:
    """What distributed training wraps, as the wrapper broadcasts buffers at each forward: with fewer batches in one
    process than in another, that waits for ever."""
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        return model.get_submodule("module")
    return model


def _eager(model: nn.Module) -> AbstractContextManager[object]:
    """Compiled parts run as they were written: hooks that come after the compiler are not called."""
    if any(hasattr(each, "_orig_mod") or each._compiled_call_impl is not None for each in model.modules()):
        eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return eager
    return nullcontext()
