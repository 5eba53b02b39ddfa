"""How a network is trained: the optimizer and its settings."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from normlab import errors
from normlab.errors import Problem
from normlab.reference import checks
from normlab.reference.optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Solver:
    """How a network is trained: which step the parameters take, and what is drawn on the way.

    Example:
        >>> Solver("momentum", lr=0.5, lr_decay=0.1, settings={"momentum": 0.8}).lr_of(epoch=0)
        0.5
    """

    optimizer: str = "sgd"  # "sgd", "momentum", "rmsprop" or "adam"
    lr: float = 1e-2
    lr_decay: float = 1.0  # the learning rate of each epoch is that of the one before times this
    settings: Mapping[str, float] = field(default_factory=dict)  # of the optimizer, beside its learning rate
    seed: int = 0  # of all dropout masks
    weight_decay: float = 0.0  # times every parameter, added to its gradient, as in torch.optim; not `reg` of the loss

    def __post_init__(self) -> None:
        errors.invalid_input("Solver", self._problems())

    def lr_of(self, epoch: int) -> float:
        """The learning rate of that epoch, the first one being 0."""
        return self.lr * self.lr_decay**epoch

    def _problems(self) -> Iterator[Problem]:
        yield from checks.not_negative(lr=self.lr, lr_decay=self.lr_decay, weight_decay=self.weight_decay)
        if self.optimizer not in OPTIMIZERS:
            rule = f"`optimizer` must be one of {', '.join(OPTIMIZERS)}."
            fix = errors.did_you_mean(self.optimizer, OPTIMIZERS)
            yield Problem(rule, got=f"optimizer = {self.optimizer!r}", fix=fix)
            return
        keywords = inspect.signature(OPTIMIZERS[self.optimizer]).parameters.values()
        known = [word.name for word in keywords if word.kind == word.KEYWORD_ONLY and word.name != "lr"]
        for name in self.settings:
            if name not in known:
                rule = f"`settings` must be those of {self.optimizer}: {', '.join(known) or 'it has none'}."
                fix = errors.did_you_mean(name, known) if known else "leave it out."
                yield Problem(rule, got=f"{name!r}", fix=fix)
