"""A model as a function of its tensors, that returns the new running statistics instead of writing them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from normlab import errors
from normlab.layers.a_model import not_a_model
from normlab.layers.adopt import adopted
from normlab.layers.explicit import Explicit
from normlab.layers.scopes import taken
from normlab.ops.moments import Moments


def functional_call(
    model: nn.Module, tensors: Mapping[str, Tensor], args: Any = (), kwargs: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Tensor]]:
    """Calls a model with these parameters and buffers, as `torch.func.functional_call`, and changes nothing.

    Works in train mode under `torch.func.vmap`, `grad`, `jacrev` and their like.

    Args:
        model: with layers of ours or of PyTorch.
        tensors: parameters and buffers by name, in the place of the model's own; what is missing is the model's own.
        args: positional arguments: a tuple, or a single one.
        kwargs: keyword arguments.

    Returns:
        What the model returns, and by name the running statistics after this call: pass them among the `tensors` of
        the next one. A layer that is called twice has moved twice.

    Differs from torch:
        `torch.func.functional_call` writes the running statistics into the buffers it was given, which vmap refuses.

    Example:
        >>> model = nn.BatchNorm1d(1, momentum=1.0)
        >>> batches = torch.tensor([[[0.0], [2.0]], [[4.0], [6.0]]])
        >>> y, new = torch.func.vmap(lambda x: functional_call(model, {}, x))(batches)
        >>> new["running_mean"].flatten(), model.running_mean
        (tensor([1., 5.]), tensor([0.]))
    """
    errors.invalid_input("functional_call", not_a_model(model))
    new: dict[str, Tensor] = {}
    with adopted(model) as layers:
        own = set(layers)
        names = {module: name for name, module in model.named_modules() if module in own}

        def take(layer: Explicit, found: list[Moments]) -> None:
            prefix = f"{names[layer]}." if names[layer] else ""
            for moments in found:
                for name, value in layer.updated(moments).items():
                    layer._buffers[name] = value  # seen by a second call; put back below
                    new[prefix + name] = value

        before = {layer: dict(layer._buffers) for layer in own}
        try:
            with taken(layers, take):
                output = torch.func.functional_call(model, dict(tensors), args, dict(kwargs or {}))
        finally:
            for layer, held in before.items():
                layer._buffers.update(held)
    kept = {name for name, _ in model.named_buffers()}
    return output, {name: value for name, value in new.items() if name in kept}
