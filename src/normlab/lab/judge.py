"""What a network is trained on and judged by: the loss and the metric of the task, or the user's own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.distributions import number
from normlab.lab.own import own_function

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor | float]


@dataclass(frozen=True)
class Judge:
    """The loss (differentiable, a mean over samples) and the metric of an output; without a metric, the loss is it."""

    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    metric: Score | None

    def scores(self, output: torch.Tensor, y: torch.Tensor) -> tuple[float | None, float | None]:
        """Loss and metric; None for what is not finite."""
        loss = number(self.loss(output, y))
        if self.metric is None or loss is None:
            return loss, loss
        return loss, number(self.metric(output, y))


def judge_of(config: RunConfig, data: Dataset) -> Judge:
    """Cross-entropy and accuracy of labels, mean squared error of values, unless the config names others.

    Raises:
        UsageError: a function of the user's cannot be loaded.
    """
    labels = data.task == "classification"
    loss = own_function(config.loss) if config.loss else functional.cross_entropy if labels else squared_error
    metric = own_function(config.metric) if config.metric else accuracy if labels else None
    return Judge(loss, metric)


def accuracy(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Share of the labels that have the largest output."""
    return (output.argmax(dim=1) == y).double().mean()


def squared_error(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared error; one value a sample may be written (N,) or (N, 1).

    Example:
        >>> squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]))
        tensor(2.)
    """
    same = output.reshape(y.shape) if is_column(output, y) else output
    return functional.mse_loss(same, y)


def is_column(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether one is (N, 1) and the other (N,), which subtracted give (N, N)."""
    return len(one) == len(other) and {one.shape[1:], other.shape[1:]} == {(), (1,)}
