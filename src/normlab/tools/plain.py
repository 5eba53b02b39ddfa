"""Layers that hand on what they get, and whether somebody looks at that."""

from torch import nn

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def has_any_hooks(module: nn.Module) -> bool:
    """Whether a function of the user's sees what goes in or out, forward or backward."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def is_identity(module: nn.Module) -> bool:
    """Whether a layer hands on what it gets, and nobody looks."""
    return type(module) is nn.Identity and not has_any_hooks(module)


def is_dropout(module: nn.Module) -> bool:
    """Whether a layer sets values to zero and scales the others, so that ReLU may as well come before it."""
    return type(module) in DROPOUTS and not has_any_hooks(module)
