"""Which weight layer stands before or after a norm in the dataflow, and why a norm or a layer cannot be changed."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from normlab.layers.explicit import Explicit
from normlab.tools.dataflow import Call, Flow, Use, Value
from normlab.tools.fold_maths import affine_of, channel_axis, is_stock, is_weight_layer
from normlab.tools.kinds import does_more, kind_of, why_bound, why_kept
from normlab.tools.norms import NoNorm, norm_in

FROM_INPUT = "its statistics are taken from the input, so that it is no fixed scale and shift"
NOT_CALLED = "the example does not call it"


class Where:
    """A traced model, and the words for its layers."""

    def __init__(self, model: nn.Module, flow: Flow) -> None:
        self.model, self.flow = model, flow
        self.names = {module: name for name, module in reversed(list(model.named_modules(remove_duplicate=False)))}

    def times(self, module: nn.Module) -> int:
        """How often the example calls a layer."""
        return len(self.flow.calls.get(module, []))

    def word(self, module: nn.Module) -> str:
        """Type and name."""
        name = self.names.get(module, "")
        return f"{type(module).__name__} `{name}`" if name else type(module).__name__

    def maker(self, value: Value) -> str:
        """What a value comes from: an operation, or the layer that did it if that has no layers inside."""
        if value.call is not None and not any(True for _ in value.call.module.children()):
            return self.word(value.call.module)
        return value.maker

    def user(self, use: Use) -> str:
        """What reads a value, and where that stands."""
        if not use.within or use.within[-1] is self.model:
            return use.by
        inner = use.within[-1]
        return f"{use.by} in {self.word(inner)}" if any(True for _ in inner.children()) else self.word(inner)

    def read_elsewhere(self, value: Value, reader: nn.Module) -> str:
        """Who else than this layer reads a value; empty if nobody does."""
        return next((self.user(use) for use in value.uses if reader not in use.within), "")

    def why_fixed(self, layer: nn.Module, parameters: Sequence[str]) -> str:
        """Why these parameters of a weight layer cannot be changed by themselves; empty if they can."""
        word = self.word(layer)
        if not is_stock(layer):
            return f"{word} has a forward of its own, whose meaning is not known"
        for name in parameters:
            if nn.utils.parametrize.is_parametrized(layer, name):
                return f"the {name} of {word} is computed by a parametrization"
        if has_hooks(layer):
            return f"{word} has hooks, which see its output or set its weights"
        if (times := self.times(layer)) != 1:
            return f"{word} is called {times} times"
        for name in parameters:
            if reason := self._why_not_its_own(layer, name):
                return reason
        return ""

    def _why_not_its_own(self, layer: nn.Module, name: str) -> str:
        values = layer._parameters.get(name)
        word = self.word(layer)
        if values is None:
            return "" if name == "bias" else f"the weight of {word} is no parameter"
        if not values.is_floating_point():
            return f"the {name} of {word} is {str(values.dtype).removeprefix('torch.')}"
        for other in self.model.modules():
            if other is not layer and any(each is values for each in other._parameters.values()):
                return f"{word} shares its {name} with {self.word(other)}"
        reader = self.read_elsewhere(self.flow.value(values), layer)
        return f"the {name} of {word} is also used by {reader}" if reader else ""


def has_hooks(module: nn.Module) -> bool:
    """Whether a user's function is called before or after the layer."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def why_not_fixed_scale(where: Where, norm: nn.Module) -> str:
    """Why a norm is no scale and shift in eval mode that could be put elsewhere; empty if it is one."""
    if isinstance(norm, NoNorm):
        return "there is no norm to fold"
    inner = norm_in(norm)
    more = does_more(inner)  # that is left in its place
    if reason := why_bound(norm) if more else why_kept(norm):
        return reason
    if "forward" in vars(norm) or "forward" in vars(inner):
        return "its forward was replaced by another function"
    if not (more or kind_of(norm) in ("batch", "instance")) or not uses_running(inner):
        return FROM_INPUT
    if norm is where.model:
        return "it is the whole model, which cannot be replaced in place"
    if (times := where.times(norm)) != 1:
        return f"it is called {times} times" if times else NOT_CALLED
    if isinstance(inner, Explicit) and inner.commit_when == "always":
        return "its statistics move in eval mode too"
    if reason := _why_not_finite(inner):
        return reason
    called = where.flow.calls[norm][0]
    if len(called.inputs) > 1 + more:
        return "it is called with more than its input, as with a mask"
    if called.inputs[0] in called.inputs[1:]:
        return "its input is what it adds to its output"
    for name, values in (*inner._parameters.items(), *inner._buffers.items()):
        if values is not None and (reader := where.read_elsewhere(where.flow.value(values), norm)):
            return f"its {name} is also used by {reader}"
    return ""


def uses_running(norm: nn.Module) -> bool:
    """Whether the running statistics are what normalizes in eval mode."""
    if norm._buffers.get("running_mean") is None or norm._buffers.get("running_var") is None:
        return False
    if isinstance(norm, Explicit) and norm.normalize_with == "batch":
        return False
    return kind_of(norm) == "batch" or bool(norm.track_running_stats)


def layer_before(where: Where, norm: Call) -> Call | None:
    """The call of the weight layer whose output is what the norm gets."""
    made = norm.inputs[0].call if norm.inputs else None
    return made if made is not None and is_weight_layer(made.module) else None


def why_not_before(where: Where, norm: Call, layer: Call, parameters: Sequence[str] = ("weight", "bias")) -> str:
    """Why a layer cannot do what the norm after it does; empty if it can."""
    if reason := where.why_fixed(layer.module, parameters):
        return reason
    value = norm.inputs[0]
    word = where.word(layer.module)
    if reader := where.read_elsewhere(value, norm.module):
        return f"the output of {word} is also used by {reader}"
    return _why_not_the_same_axis(norm, word, channel_axis(layer.module, len(norm.shape)))


def layer_after(where: Where, norm: Call) -> Call | str:
    """The call of the one weight layer that reads the output of the norm, or who reads it."""
    value = norm.outputs[0]
    layers: list[nn.Module] = []
    for use in value.uses:
        inside = next((each for each in use.within if is_weight_layer(each)), None)
        if inside is None:
            return f"the output of the norm is used by {where.user(use)}"
        layers += [] if inside in layers else [inside]
    if len(layers) != 1:
        return f"the output of the norm is used by {len(layers)} layers" if layers else "nobody uses its output"
    calls = [each for each in where.flow.calls.get(layers[0], []) if each.inputs[:1] == [value]]
    return calls[0] if calls else f"the output of the norm is not what {where.word(layers[0])} works on"


def why_not_after(where: Where, norm: Call, layer: Call) -> str:
    """Why a layer cannot do what the norm before it does, its border left aside; empty if it can."""
    if reason := where.why_fixed(layer.module, ("weight", "bias")):
        return reason
    axis = channel_axis(layer.module, len(layer.shape))  # the same for what comes in and what goes out
    return _why_not_the_same_axis(norm, where.word(layer.module), axis)


def _why_not_the_same_axis(norm: Call, word: str, axis: int) -> str:
    mine = channel_axis(norm.module, len(norm.shape))
    if mine == axis:
        return ""
    return f"its channels are in dimension {mine} of {norm.shape}, those of {word} in dimension {axis}"


def _why_not_finite(norm: nn.Module) -> str:
    problems: list[tuple[str, Callable[[torch.Tensor], torch.Tensor], str]] = [
        ("running_mean", lambda values: ~values.isfinite(), "not finite"),
        ("running_var", lambda values: ~values.isfinite(), "not finite"),
        ("running_var", lambda values: values < 0, "negative"),
        ("weight", lambda values: ~values.isfinite(), "not finite"),
        ("bias", lambda values: ~values.isfinite(), "not finite"),
    ]
    for name, wrong, word in problems:
        values = norm._buffers.get(name) if name in norm._buffers else norm._parameters.get(name)
        if values is not None and (at := wrong(values.detach()).flatten().nonzero().flatten().tolist()):
            return f"its {name} is {word} in {len(at)} of {values.numel()} channels, first in channel {at[0]}"
    if not affine_of(norm).scale.isfinite().all():
        return "its variance is zero and nothing is added to it"
    return ""
