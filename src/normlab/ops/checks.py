"""What is asked of the arguments of the ops."""

import torch
from torch import Tensor

from normlab import errors


def mask_like(where: str, x: Tensor, mask: object, axis: int | None) -> Tensor:
    """The mask as large as `x`.

    Args:
        where: the function that is asking, for the message.
        x: the values.
        mask: True where a value is real.
        axis: where the channels stand, which the mask does not have; None for a mask that has every dimension of `x`.

    Raises:
        InvalidInputError: it is not boolean, or is not broadcastable.

    Example:
        >>> mask_like("batch_norm", torch.zeros(2, 3, 4), torch.ones(2, 4, dtype=torch.bool), 1).shape
        torch.Size([2, 3, 4])
    """
    sizes = [size for at, size in enumerate(x.shape) if axis is None or at != axis % x.ndim]
    problems = []
    if not isinstance(mask, Tensor):
        problem = errors.Problem("`mask` must be a tensor.", got=type(mask).__name__, fix="pass torch.as_tensor(mask).")
        raise errors.InvalidInputError(errors.message(where, problem))
    if mask.dtype != torch.bool:
        fix = "pass mask.bool(), True where a value is real."
        problems.append(errors.Problem("`mask` must be boolean.", got=errors.describe(mask=mask), fix=fix))
    if not _broadcastable(tuple(mask.shape), tuple(sizes)):
        rule = f"`mask` must be broadcastable to {tuple(sizes)}, the shape of `x`"
        rule += "." if axis is None else " without its channels."
        by_sample = mask.shape == x.shape[:1]
        fix = f"for one entry a sample, pass mask[:{', None' * (len(sizes) - 1)}]." if by_sample else ""
        problems.append(errors.Problem(rule, got=errors.describe(mask=mask, x=x), fix=fix))
    errors.invalid_input(where, problems)
    whole = mask.expand(sizes)
    return whole.expand(x.shape) if axis is None else whole.unsqueeze(axis % x.ndim).expand(x.shape)


def _broadcastable(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return tuple(torch.broadcast_shapes(shape, target)) == target
    except RuntimeError:
        return False
