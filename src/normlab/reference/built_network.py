"""What the networks have in common that build their layers from a few settings."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.layer import Layer
from normlab.reference.layers import NORMS, norm_layers, norm_problems
from normlab.reference.network import Network


@dataclass(frozen=True, kw_only=True)
class BuiltNetwork(Network):
    """A network whose layers follow from its settings, the same norm after each hidden linear map."""

    norms: ClassVar[tuple[str, ...]] = NORMS  # those that fit

    norm: str | None = None  # one of `norms`, or None for none
    groups: int = 2  # of group norm
    eps: float = 1e-5
    momentum: float = 0.1  # of the running statistics, in PyTorch's meaning
    weight_scale: float = 1e-2  # standard deviation of the first weights

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Its numbers of units, by the name of the setting."""

    def norm_of(self, name: str, channels: int) -> tuple[Layer, ...]:
        """Its norm, for so many channels, under that name."""
        return norm_layers(name, self.norm, channels, groups=self.groups, eps=self.eps, momentum=self.momentum)

    def _problems(self) -> Iterator[Problem]:
        yield from norm_problems(self.norm, self.norms)
        yield from super()._problems()
        yield from checks.epsilon(self.eps)
        yield from checks.momentum(self.momentum)
        yield from checks.not_negative(weight_scale=self.weight_scale)
        for name, sizes in {"groups": (self.groups,), **self.sizes}.items():
            if min(sizes, default=1) < 1:
                yield Problem(f"`{name}` must be at least 1.", got=f"{name} = {', '.join(map(str, sizes))}")
