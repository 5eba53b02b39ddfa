"""A model in eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from normlab import errors
from normlab.tools.ready import not_a_model

Model = TypeVar("Model", bound=nn.Module)


@contextmanager
def inference(model: Model) -> Iterator[Model]:
    """Inside the block every layer of the model is in eval mode; afterwards each is in the mode that it was in.

    Dropout passes its input on, batch norms normalize by their running statistics and leave them as they are. Autograd
    is left to the caller, who may want gradients: wrap the block in `torch.no_grad()` to save their cost.

    Args:
        model: any network. A layer that is added to it inside the block is not touched.

    Yields:
        The model.

    Raises:
        InvalidInputError: this is not a model.

    Differs from torch:
        `model.eval()` and then `model.train()` wakes up a layer that was in eval mode before, and calls `train` of each
        layer, which may be the user's own and do more or less than to set the mode. Here only the mode is set.

    Example:
        >>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
        >>> with inference(model):
        ...     print(model.training, model[0].training, model[1].training)
        False False False
        >>> model.training, model[0].training, model[1].training
        (True, True, False)
    """
    errors.invalid_input("inference", not_a_model(model))
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield model
    finally:
        for module, training in modes:
            module.training = training
