"""What enters each norm while batches pass through a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from normlab import errors
from normlab.tools.kinds import described
from normlab.tools.moments import Moments, averaged, in_float64, merge
from normlab.tools.population_norms import Norm, entering, in_use, moments_at, use_own

Method = Literal["pooled", "average", "ema"]


class Enough(BaseException):
    """The layer that a pass is made for has seen the batch, and what comes after it is of no interest.

    No `Exception`, as a model may catch those.
    """


class NotFiniteError(errors.InvalidInputError):
    """NaN or infinity enters a layer."""


@dataclass(frozen=True)
class Gathered:
    """What one layer was given: the statistics of each call, or of all of them together where they are pooled."""

    batches: int = 0
    calls: int = 0
    parts: tuple[Moments, ...] = ()
    last: int = -1  # the batch that was the last to reach it

    def on_cpu(self) -> "Gathered":
        """To be sent to another process."""
        parts = (Moments(part.mean.cpu(), part.var.cpu(), part.count) for part in self.parts)
        return replace(self, parts=tuple(parts))


@dataclass
class Watch:
    """The norms of one recalibration, by hooks that look at what enters them."""

    norms: dict[str, Norm]
    method: Method
    tool: str = "recalibrate_"
    settled: set[str] = field(default_factory=set)  # those that have their final statistics
    wanted: set[str] | None = None  # those whose input is gathered; None: whichever is called first
    enough: int = 0  # after so many calls of a wanted layer, the rest of a batch is left out; 0: never
    gathered: dict[str, Gathered] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)  # in the batch that is passing
    batch: int = 0
    sums: tuple[float, float] = (0.0, 0.0)  # of what enters the first norm of each batch, and of its sizes

    def __post_init__(self) -> None:
        self.domains = {name: in_use(module) for name, module in self.norms.items()}

    def begin(self, wanted: set[str] | None, enough: int = 0) -> None:
        """Starts to gather anew."""
        self.wanted, self.enough, self.gathered, self.batch = wanted, enough, {}, 0
        self.sums = (0.0, 0.0)

    def settle(self, name: str) -> None:
        """From now on this layer normalizes by its running statistics."""
        self.settled.add(name)
        self.norms[name].training = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The hooks are there inside the block."""
        handles = [
            module.register_forward_pre_hook(
                lambda _, args, named, name=name: self._see(name, args, named), with_kwargs=True
            )
            for name, module in self.norms.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _see(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        if in_use(self.norms[name]) != self.domains[name]:  # this call is normalized by statistics that stay
            return
        if not self.called:
            self.sums = _added(self.sums, entering(args, named))
        self.called.append(name)
        if name in self.settled:
            return
        if self.wanted is None:
            self.wanted = {name}
        module = self.norms[name]
        sets = moments_at(module, args, named, together=self.method == "pooled", tool=self.tool)
        moments = averaged(sets) if sets else None
        if name in self.wanted:
            if moments is not None:
                self._gather(name, moments, min(int(each.count) for each in sets))
            if self.called.count(name) == self.enough:
                raise Enough
        use_own(module, args, named, moments)

    def _gather(self, name: str, moments: Moments, smallest: int) -> None:
        self._check(name, moments, smallest)
        before = self.gathered.get(name, Gathered())
        pool = self.method == "pooled" and before.parts
        parts = (merge(before.parts[0], moments),) if pool else (*before.parts, moments)
        another = before.last != self.batch
        self.gathered[name] = Gathered(before.batches + another, before.calls + 1, parts, self.batch)

    def _check(self, name: str, moments: Moments, smallest: int) -> None:
        bad = ~(moments.mean.isfinite() & moments.var.isfinite())
        here = f"{name or 'the model'}: {described(self.norms[name])}, batch {self.batch}, counted from 0"
        if bool(bad.any()):
            channels = bad.nonzero().flatten().tolist()
            shown = ", ".join(map(str, channels[:5])) + (", …" if len(channels) > 5 else "")
            problem = errors.Problem(
                "what enters a layer must be finite.",
                got=f"{here}: NaN or infinity in channel{'' if len(channels) == 1 else 's'} {shown}",
                fix="leave that batch out"
                + ("; repair_ mends layers whose statistics are not finite." if self.tool == "recalibrate_" else "."),
            )
            raise NotFiniteError(errors.message(self.tool, problem))
        if self.method != "pooled" and smallest < 2:
            problem = errors.Problem(
                f'method="{self.method}" takes the variance of each batch, which needs two values a channel.',
                got=f"{here}: one value a channel",
                fix='leave that batch out, or take method="pooled", where it counts as one value of all.',
            )
            errors.invalid_input(self.tool, [problem])


def _added(sums: tuple[float, float], x: torch.Tensor) -> tuple[float, float]:
    wide = in_float64(x)
    return sums[0] + float(wide.nansum()), sums[1] + float(wide.abs().nansum())
