"""What a model puts out and learns on an example, before and after a change that should keep it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from normlab.tools.called import call, tensors_in
from normlab.tools.fold_verify import full_float32, relative_error
from normlab.tools.reached import left_alone

# Roundings that differ are carried on by the layers after them, at times far: a ReLU whose input is almost 0 may pass a
# gradient or not, each by a jump of about 1e-3 in a residual network in float32. So what a change moves is compared
# with what it does to move every weight by so many roundings: few would flip no ReLU where ours or PyTorch's did.
ROUNDINGS = 64
TIMES = 4


@dataclass(frozen=True)
class Answers:
    """Of one mode: outputs, gradients of the parameters, and buffers afterwards."""

    training: bool
    outputs: list[Tensor]
    gradients: list[Tensor]
    buffers: list[Tensor]


def answers_of(model: nn.Module, example: Any, moved: bool = False) -> list[Answers]:
    """What a model makes of an example in train mode and in eval mode, with a random upstream gradient.

    The model is left alone, and starts from the random state that it starts from next time. What is not in floating
    point is left out.

    Args:
        model: the model.
        example: what it is called with.
        moved: do it with weights that are off by some roundings.
    """
    return [_answers(model, example, training, moved) for training in (True, False)]


def fresh(example: Any) -> Any:
    """The example with tensors of its own, which a model may change."""
    return tree_map_only(Tensor, Tensor.clone, example)


def difference(before: Sequence[Answers], after: Sequence[Answers]) -> tuple[float, str]:
    """The largest difference, relative to the largest value, and where it is.

    Outputs and buffers are compared each by itself, gradients all together: that of a bias before a norm is nothing
    but rounding.
    """
    found = list(_differences(before, after))
    return max(found, default=(0.0, ""), key=lambda each: each[0])


def tolerance(model: nn.Module, answers: Sequence[Answers]) -> float:
    """Half of the digits of the narrowest dtype.

    Example:
        >>> f"{tolerance(nn.Linear(2, 2), []):.1e}"
        '3.5e-04'
    """
    outputs = [each for answer in answers for each in answer.outputs]
    held = [each for each in (*model.parameters(), *model.buffers(), *outputs) if each.is_floating_point()]
    return math.sqrt(max((torch.finfo(each.dtype).eps for each in held), default=torch.finfo(torch.float32).eps))


def moved_by_roundings(model: nn.Module, example: Any, answers: Sequence[Answers]) -> float:
    """How far roundings of its weights move a model."""
    return TIMES * difference(answers, answers_of(model, example, moved=True))[0]


def _answers(model: nn.Module, example: Any, training: bool, moved: bool) -> Answers:
    learned: dict[str, Tensor] = {
        name: each for name, each in model.named_parameters() if each.requires_grad and each.is_floating_point()
    }
    example = fresh(example)
    with left_alone(model), full_float32(), torch.enable_grad():
        model.train(training)
        if moved:
            named = {name: _moved(each) for name, each in model.named_parameters()}
            output = torch.func.functional_call(model, named, *_arguments(example))
            learned = {name: named[name] for name in learned}
        else:
            output = call(model, example)
        outputs = [each for each in tensors_in(output) if each.is_floating_point()]
        # before the backward, in which activation checkpointing has layers of PyTorch move once more
        buffers = [each.detach().clone() for each in _kept_buffers(model)]
        gradients = _gradients(outputs, list(learned.values()))
    return Answers(training, [each.detach().clone() for each in outputs], gradients, buffers)


def _gradients(outputs: Sequence[Tensor], learned: Sequence[Tensor]) -> list[Tensor]:
    ends = list({id(each): each for each in outputs if each.requires_grad}.values())
    if not ends or not learned:
        return []
    generator = torch.Generator().manual_seed(0)
    upstream = [torch.randn(each.shape, generator=generator).to(each) for each in ends]
    found = torch.autograd.grad(ends, learned, upstream, allow_unused=True)
    return [torch.zeros(()) if each is None else each.detach() for each in found]


def _moved(weight: Tensor) -> Tensor:
    if not weight.is_floating_point():
        return weight
    generator = torch.Generator().manual_seed(weight.numel())
    noise = torch.randn(weight.shape, generator=generator).to(weight.device)
    off = ROUNDINGS * torch.finfo(weight.dtype).eps * noise
    return (weight.detach() * (1 + off).to(weight.dtype)).requires_grad_(weight.requires_grad)


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, dict):
        return (), example
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def _kept_buffers(model: nn.Module) -> Iterator[Tensor]:
    """Those in floating point that are saved."""
    saved = model.state_dict(keep_vars=True)
    return (each for name, each in model.named_buffers() if name in saved and each.is_floating_point())


def _differences(before: Sequence[Answers], after: Sequence[Answers]) -> Iterator[tuple[float, str]]:
    for one, other in zip(before, after, strict=True):
        mode = "train mode" if one.training else "eval mode"
        yield relative_error(one.outputs, other.outputs), f"the outputs in {mode}"
        yield relative_error(one.buffers, other.buffers), f"the statistics in {mode}"
        yield relative_error([_together(one.gradients)], [_together(other.gradients)]), f"the gradients in {mode}"


def _together(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.flatten().cpu().double() for each in tensors]) if tensors else torch.zeros(0)
