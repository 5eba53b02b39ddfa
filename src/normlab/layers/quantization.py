"""Fusing for quantization, which knows layers by their exact class, from a table that only PyTorch's are in."""

import copy
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.ao.quantization.fuser_method_mappings import _DEFAULT_OP_LIST_TO_FUSER_METHOD as TABLE

from normlab import errors
from normlab.layers.adopt import OURS, disown
from normlab.layers.batch_norm import BatchNormOptions

STOCK = {ours: theirs for theirs, ours in OURS.items()}
IN_EVALUATION = ("normalize_with", "commit_when", "axis")  # the others make no difference there


def register() -> None:
    """Gives `fuse_modules` and `fuse_modules_qat` of `torch.ao.quantization` an entry for each of ours.

    It is the one thing that importing this package changes elsewhere: they call nothing of a layer, and whoever fuses
    a model need not know whose layers are in it. What has statistics of another kind, as ghost batches, is still
    refused. The fusing by `torch.fx` has no such table, and leaves our layers as they are.

    Example:
        >>> import torch
        >>> from normlab.layers import BatchNorm2d
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), BatchNorm2d(2), nn.ReLU()).eval()
        >>> torch.ao.quantization.fuse_modules(model, ["0", "1", "2"])[1:]
        Sequential(
          (1): Identity()
          (2): Identity()
        )
    """
    for types, fuse in list(TABLE.items()):
        ours = tuple(OURS.get(each, each) for each in types)
        if ours != types:
            TABLE[ours] = _of_stock(fuse)


def _of_stock(fuse: Callable[..., Any]) -> Callable[..., Any]:
    def fuse_ours(is_qat: bool, *modules: nn.Module) -> Any:
        return fuse(is_qat, *(_stock_twin(each, is_qat) for each in modules))

    return fuse_ours


def _stock_twin(module: nn.Module, is_qat: bool) -> nn.Module:
    """The layer of PyTorch with the same tensors, as the fused modules ask for its class."""
    if not isinstance(module, BatchNormOptions):
        return module
    of_interest = module.OPTIONS if is_qat else IN_EVALUATION
    lost = [name for name in of_interest if getattr(module, name) != getattr(type(module), name)]
    if lost:
        where = type(module).__name__
        got = ", ".join(f"{name} = {getattr(module, name)!r}" for name in lost)
        rule = "cannot be fused with options that the fused layer does not have."
        errors.invalid_input(where, [errors.Problem(rule, got=got, fix="leave it out of the list, or set them back.")])
    twin = copy.copy(module)
    for name in ("_buffers", "_non_persistent_buffers_set"):
        vars(twin)[name] = copy.copy(vars(module)[name])
    disown(twin, STOCK[type(module)])
    return twin
