"""Whether what was given is a model at all."""

from torch import nn

from normlab import errors


def not_a_model(model: object) -> list[errors.Problem]:
    """That something else stands where the model does, as with swapped arguments.

    Example:
        >>> not_a_model(None)
        [Problem(rule='`model` must be a torch.nn.Module.', got='NoneType', fix='pass the model first.')]
    """
    if isinstance(model, nn.Module):
        return []
    return [errors.Problem("`model` must be a torch.nn.Module.", type(model).__name__, "pass the model first.")]
