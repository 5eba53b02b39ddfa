"""Norms by our kernels: a function of autograd, and the same as an op of `torch.library` for who traces."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from normlab.kernels import formula
from normlab.kernels.activation import NOTHING, After
from normlab.kernels.pick import transformed
from normlab.kernels.view import View
from normlab.ops.lean import is_lean, remember

FORWARD = (
    "(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, Tensor? given, int sets, float eps, str activation,"
    " float slope) -> (Tensor y, Tensor statistics)"
)
BACKWARD = (
    "(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, Tensor statistics, bool given, int sets,"
    " str activation, float slope) -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dresidual)"
)
Function = Callable[..., Any]


class Kernels(NamedTuple):
    """What computes a norm.

    `forward(x, weight, bias, sets, eps, after, given)` returns y and the statistics (4, sets): mean, what their dtype
    leaves out of it, 1 / √(var + eps), biased variance; with `given` statistics it returns these. `backward(dy, x,
    weight, bias, statistics, sets, after, given)` returns dx, dweight, dbias and the gradient of the residual.
    """

    forward: Function
    backward: Function


def fused(name: str, view_of: Callable[[Tensor, int], View], load: Callable[[], Kernels]) -> Function:
    """Makes `f(x, weight, bias, *, sets, eps, after, given) -> (y, statistics)` of kernels, and registers it as
    `normlab::fused_NAME`.

    In eager mode it is a function of autograd, which costs 25 µs less forward and 60 with backward than the op. Higher
    derivatives are those of the formula.

    Args:
        name: of the norm.
        view_of: makes the view of an input, for the shapes and the formula.
        load: gives the kernels, when they are first needed.
    """

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, x: Tensor, weight: Any, bias: Any, residual: Any, given: Any, sets: int, eps: float,
            activation: Any, slope: float,
        ) -> tuple[Tensor, Tensor]:  # fmt: skip
            y, statistics = load().forward(x, weight, bias, sets, eps, After(activation, slope, residual), given)
            ctx.save_for_backward(x, weight, bias, residual, statistics)
            ctx.how = given is not None, sets, eps, activation, slope
            ctx.mark_non_differentiable(statistics)
            ctx.set_materialize_grads(False)
            return y, statistics

        @staticmethod
        def backward(ctx: Any, dy: Tensor | None, of_statistics: Any) -> Any:
            if dy is None:
                return (None,) * 9
            if torch.is_grad_enabled() or _is_many(dy):
                return *_again(view_of, dy, ctx), *[None] * 5
            x, weight, bias, residual, statistics = ctx.saved_tensors
            given, sets, _, activation, slope = ctx.how
            dx, dweight, dbias, dresidual = load().backward(
                dy, x, weight, bias, statistics, sets, After(activation, slope, residual), given
            )
            return dx, _like(dweight, weight), _like(dbias, bias), dresidual, None, None, None, None, None

    # without what `Function.apply` looks at first: it is for transforms, which `pick` has ruled out, and costs 5 µs
    apply = super(torch.autograd.Function, Fused).apply
    op = _registered(name, view_of, load)

    def call(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, *, sets: int, eps: float, after: After = NOTHING,
        given: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        arguments = x, weight, bias, after.residual, given, sets, eps, after.activation, after.slope
        if torch.compiler.is_compiling():
            found: tuple[Tensor, Tensor] = op(*arguments)
            return found if given is None else (found[0], given)
        y, statistics = apply(*arguments)  # type: ignore[no-untyped-call]
        if is_lean():
            known = [None if each is None else each.detach() for each in (x, weight, bias)]
            activation, slope = after.activation, after.slope  # not `after`, which holds the residual

            def again(residual: Tensor | None) -> Tensor:
                added = After(activation, slope, residual)
                made: Tensor = load().forward(*known, sets, eps, added, statistics)[0]
                return made

            remember(y, again, [*known, statistics], after.residual)
        return y, statistics

    return call


def _registered(name: str, view_of: Callable[[Tensor, int], View], load: Callable[[], Kernels]) -> Function:
    def compute(
        x: Tensor,
        weight: Any,
        bias: Any,
        residual: Any,
        given: Any,
        sets: int,
        eps: float,
        activation: Any,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        after = After(activation, slope, residual)
        y, statistics = load().forward(x, weight, bias, sets, eps, after, given)
        return y, statistics if given is None else statistics.new_empty(0)  # a result must not be an argument

    def compute_back(
        dy: Tensor, x: Tensor, weight: Any, bias: Any, residual: Any, statistics: Tensor, given: bool, sets: int,
        activation: Any, slope: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        after = After(activation, slope, residual)
        dx, dweight, dbias, dresidual = load().backward(dy, x, weight, bias, statistics, sets, after, given)
        return dx, dweight, dbias.clone(), dx.new_empty(0) if dresidual is None else dresidual  # two may be one tensor

    forward = torch.library.custom_op(f"normlab::fused_{name}", compute, mutates_args=(), schema=FORWARD)
    backward = torch.library.custom_op(
        f"normlab::fused_{name}_backward", compute_back, mutates_args=(), schema=BACKWARD
    )

    @forward.register_fake
    def _(
        x: Tensor,
        weight: Any,
        bias: Any,
        residual: Any,
        given: Any,
        sets: int,
        eps: float,
        activation: Any,
        slope: float,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        shape = [4, view_of(x, sets).sets] if given is None else [0]
        return torch.empty_like(x), x.new_empty(shape, dtype=wide)

    @backward.register_fake
    def _(
        dy: Tensor, x: Tensor, weight: Any, bias: Any, residual: Any, statistics: Tensor, given: bool, sets: int,
        activation: Any, slope: float,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        each = statistics.new_empty([view_of(x, sets).entries])
        dresidual = x.new_empty([0]) if residual is None else torch.empty_like(x)
        return torch.empty_like(x), each, torch.empty_like(each), dresidual

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, weight, bias, residual, given, ctx.sets, _, ctx.activation, ctx.slope = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.given = given is not None
        ctx.save_for_backward(x, weight, bias, residual, output[1] if given is None else given)

    def differentiate(ctx: Any, dy: Tensor, of_statistics: Any) -> tuple[Any, ...]:
        x, weight, bias, residual, statistics = ctx.saved_tensors
        found = backward(dy, x, weight, bias, residual, statistics, ctx.given, ctx.sets, ctx.activation, ctx.slope)
        dx, dweight, dbias, dresidual = found
        return (
            dx, _like(dweight, weight), _like(dbias, bias), None if residual is None else dresidual,
            None, None, None, None, None,
        )  # fmt: skip

    forward.register_autograd(differentiate, setup_context=keep)
    return forward


def _again(view_of: Callable[[Tensor, int], View], dy: Tensor, ctx: Any) -> list[Tensor | None]:
    """The gradients in operations of PyTorch, which can be differentiated in their turn: those of the formula.

    Of aliases, as one of the inputs may have been made of another: the way from there to here is not ours.
    """
    given, sets, eps, activation, slope = ctx.how
    *inputs, statistics = ctx.saved_tensors
    with torch.enable_grad():
        x, weight, bias, residual = inputs = [None if each is None else each.view_as(each) for each in inputs]
        view = view_of(x, sets)
        if given:
            y = formula.normalize_with(x, weight, bias, None, statistics[0], statistics[2], view)
        else:
            y = formula.normalize(x, weight, bias, None, view, eps).y
        y = After(activation, slope, residual).of(y)
    wanted = [each for each in inputs if each is not None and each.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=torch.is_grad_enabled(), allow_unused=True))
    return [next(found) if each is not None and each.requires_grad else None for each in inputs]


def _is_many(dy: Tensor) -> bool:
    """Whether gradients are computed for many of these at once, which then have no place in memory of their own."""
    return transformed() or torch._C._functorch.is_legacy_batchedtensor(dy)


def _like(gradient: Tensor, parameter: Tensor | None) -> Tensor | None:
    if parameter is None or (gradient.shape == parameter.shape and gradient.dtype == parameter.dtype):
        return None if parameter is None else gradient
    return gradient.view(parameter.shape).to(parameter.dtype)
