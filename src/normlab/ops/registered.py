"""How an op is made known to `torch.library`: shapes for the tracer, first and second derivative, vmap."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from normlab.kernels import formula
from normlab.kernels.view import View, statistics_dtype

FORWARD = (
    "(Tensor x, Tensor? weight, Tensor? bias, Tensor? mask, int sets, float eps)"
    " -> (Tensor y, Tensor mean, Tensor rstd, Tensor var)"
)
BACKWARD = (
    "(Tensor dy, Tensor x, Tensor? weight, Tensor? mask, Tensor mean, Tensor rstd, int sets, float eps)"
    " -> (Tensor dx, Tensor dweight, Tensor dbias)"
)
# x and what tells its sets (the axis of the channels, groups, or how many dimensions are normalized) to the view
ViewOf = Callable[[Tensor, int], View]
Op = Callable[..., Any]


class Kernels(NamedTuple):
    """What computes an op in the place of the formula: forward and backward, with the arguments of the schemas."""

    forward: Op
    backward: Op


def registered(name: str, view_of: ViewOf, kernels: Kernels | None = None) -> Op:
    """Registers `normlab::NAME` and its backward, and returns the first.

    Its second derivative is that of the formula, computed anew from `x`, and its vmap is a loop: both are rare, as
    `pick` has the formula itself serve a transform.

    Args:
        name: of the op.
        view_of: makes the view of an input.
        kernels: what computes it; the formula, if nothing is given.
    """

    def compute(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, mask: Tensor | None, sets: int, eps: float
    ) -> tuple[Tensor, ...]:
        if kernels is None:
            y, *statistics = formula.normalize(x, weight, bias, mask, view_of(x, sets), eps)
        else:
            y, *statistics = kernels.forward(x, weight, bias, mask, sets, eps)
        return _laid_out(y, x), *statistics

    def compute_back(
        dy: Tensor, x: Tensor, weight: Tensor | None, mask: Tensor | None, mean: Tensor, rstd: Tensor, sets: int,
        eps: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        if kernels is None:
            dx, *others = formula.gradients(dy, x, weight, mask, mean, rstd, view_of(x, sets))
        else:
            dx, *others = kernels.backward(dy, x, weight, mask, mean, rstd, sets, eps)
        return _laid_out(dx, x), *others

    forward = torch.library.custom_op(f"normlab::{name}", compute, mutates_args=(), schema=FORWARD)
    backward = torch.library.custom_op(f"normlab::{name}_backward", compute_back, mutates_args=(), schema=BACKWARD)

    @forward.register_fake
    def _(x: Tensor, weight: Any, bias: Any, mask: Any, sets: int, eps: float) -> tuple[Tensor, ...]:
        view = view_of(x, sets)
        each = x.new_empty([view.sets], dtype=statistics_dtype(x))
        return torch.empty_like(x), each, torch.empty_like(each), torch.empty_like(each)

    @backward.register_fake
    def _(
        dy: Tensor, x: Tensor, weight: Any, mask: Any, mean: Any, rstd: Any, sets: int, eps: float
    ) -> tuple[Tensor, ...]:
        view = view_of(x, sets)
        dweight = x.new_empty([view.entries], dtype=statistics_dtype(x))
        return torch.empty_like(x), dweight, torch.empty_like(dweight)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, mask, ctx.sets, ctx.eps = inputs
        _, mean, rstd, var = output
        ctx.mark_non_differentiable(mean, rstd, var)
        ctx.save_for_backward(x, weight, mask, mean, rstd)
        ctx.bias_like = None if bias is None else (bias.shape, bias.dtype)

    def differentiate(ctx: Any, dy: Tensor, *of_statistics: Any) -> tuple[Any, ...]:
        x, weight, mask, mean, rstd = ctx.saved_tensors
        dx, dweight, dbias = backward(dy, x, weight, mask, mean, rstd, ctx.sets, ctx.eps)
        shape, dtype = ctx.bias_like or (None, None)
        return (
            dx,
            None if weight is None else dweight.view(weight.shape).to(weight.dtype),
            None if dtype is None else dbias.view(shape).to(dtype),
            None, None, None,
        )  # fmt: skip

    def keep_again(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        dy, x, weight, mask, _, _, ctx.sets, ctx.eps = inputs
        ctx.save_for_backward(dy, x, weight, mask)

    def differentiate_again(ctx: Any, *above: Tensor) -> tuple[Any, ...]:
        dy, x, weight, mask = ctx.saved_tensors
        again = torch.is_grad_enabled()  # whether this is to be differentiated in its turn
        leaves = [
            each.view_as(each) if again and each.requires_grad else each.detach().requires_grad_()
            for each in (dy, x, weight)
            if each is not None
        ]
        with torch.enable_grad():
            scale = None if weight is None else leaves[2]
            outputs = _first_derivative(leaves[0], leaves[1], scale, mask, view_of(x, ctx.sets), ctx.eps)
            found = torch.autograd.grad(outputs, leaves, above, allow_unused=True, create_graph=again)
        return *found, *[None] * (8 - len(found))

    forward.register_autograd(differentiate, setup_context=keep)
    backward.register_autograd(differentiate_again, setup_context=keep_again)

    forward.register_vmap(lambda info, dims, *given: _one_by_one(forward, info.batch_size, dims, given))
    backward.register_vmap(lambda info, dims, *given: _one_by_one(backward, info.batch_size, dims, given))
    return forward


def _one_by_one(op: Op, size: int, dims: tuple[int | None, ...], given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The vmap of an op, whose results are stacked. Another vmap cannot be called from here."""
    columns = [(each,) * size if dim is None else each.unbind(dim) for each, dim in zip(given, dims, strict=True)]
    found = [op(*row) for row in zip(*columns, strict=True)]
    stacked = tuple(torch.stack(each) for each in zip(*found, strict=True))
    return stacked, (0,) * len(stacked)


def _first_derivative(
    dy: Tensor, x: Tensor, weight: Tensor | None, mask: Tensor | None, view: View, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients as functions of x alone, its moments among what is differentiated."""
    _, mean, rstd, _ = formula.normalize(x, None, None, mask, view, eps)
    return formula.gradients(dy, x, weight, mask, mean, rstd, view)


def _laid_out(y: Tensor, x: Tensor) -> Tensor:
    """`y` in the memory format of `x`, which is what the tracer was told."""
    like = torch.empty_like(x)
    return y if y.stride() == like.stride() and y is not x else like.copy_(y)
