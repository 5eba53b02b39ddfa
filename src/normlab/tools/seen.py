"""What runs of a model show of the activations after its norms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from normlab.tools.dataflow import Call, Flow, Use
from normlab.tools.plain import has_any_hooks, is_dropout
from normlab.tools.recognized import Follows, activation_of

FOLLOW = {"relu", "leaky_relu", "silu", "gelu", "add", "iadd"}


@dataclass(frozen=True)
class Shown:
    """The activation after a norm, and what it computes."""

    activation: nn.Module
    follows: Follows


class Seen:
    """Runs in eval and in train mode; none if there is no example."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        self.flows = flows

    def calls(self, module: nn.Module) -> list[int]:
        """How often each run calls a layer; empty if none does."""
        times = [len(flow.calls.get(module, [])) for flow in self.flows]
        return times if any(times) else []

    def is_followed(self, norm: nn.Module) -> bool:
        """Whether some run activates what a norm puts out, or adds something to it."""
        return any(use.by in FOLLOW for flow in self.flows for call in flow.calls.get(norm, []) for use in _uses(call))

    def read_elsewhere(self, norm: nn.Module) -> str:
        """Who reads what a norm puts out beside the first who does; empty if nobody does, or if that one changed it."""
        for call in (each for flow in self.flows for each in flow.calls.get(norm, [])):
            first, *others = _uses(call) or [Use("")]
            if first.by not in call.outputs[0].passed:
                other = next((each for each in others if (each.by, each.within) != (first.by, first.within)), None)
                if other is not None:
                    return f"its output is also read by {other.by}"
        return ""

    def activations(self, norms: Iterable[nn.Module]) -> dict[nn.Module, Shown | str]:
        """For norms that every run calls, the activation that alone reads them and reads nothing else, or the reason.

        The reason is empty where no layer that is an activation follows.
        """
        found: dict[nn.Module, Shown | str] = {}
        for norm in norms:
            if self.calls(norm):
                first, *others = [_activation(flow, norm) for flow in self.flows]
                found[norm] = first if all(each == first for each in others) else ""
        for shown in {each for each in found.values() if isinstance(each, Shown)}:
            mine = [norm for norm, each in found.items() if each == shown]
            if not all(_gets_only(flow, shown.activation, mine) for flow in self.flows):
                words = f"{type(shown.activation).__name__} after it gets other values too"
                found |= dict.fromkeys(mine, words)
        return found


def _activation(flow: Flow, norm: nn.Module) -> Shown | str:
    found: set[Shown] = set()
    for call in flow.calls.get(norm, []):
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return "it is called with more than its input"
        last = _after_dropout(flow, call)
        uses = _uses(last)
        if not uses or not uses[0].within:
            return ""
        module = uses[0].within[-1]
        follows = activation_of(module)
        if follows is None or (last is not call and follows.activation != "relu"):
            return ""
        if has_any_hooks(module):
            return f"{type(module).__name__} after it has hooks"
        if module not in last.outputs[0].passed:  # else what is read later is what it made
            other = next((use.by for use in uses if module not in use.within), "")
            if other:
                return f"its output is also read by {other}"
        found.add(Shown(module, follows))
    return found.pop() if len(found) == 1 else ""


def _after_dropout(flow: Flow, call: Call) -> Call:
    """The call of the last layer of dropout that alone reads what a norm puts out; that of the norm if none does."""
    while call.outputs and (uses := _uses(call)) and uses[0].within and is_dropout(layer := uses[0].within[-1]):
        if not all(layer in use.within for use in uses):
            break
        call = next(each for each in flow.calls[layer] if call.outputs[0] in each.inputs)
    return call


def _uses(call: Call) -> list[Use]:
    """Who reads what a layer puts out, in order."""
    return [use for value in call.outputs[:1] for use in value.uses if call.module not in use.within]


def _gets_only(flow: Flow, activation: nn.Module, norms: Sequence[nn.Module]) -> bool:
    calls = [_after_dropout(flow, call) for norm in norms for call in flow.calls[norm]]
    made = {value for call in calls for value in call.outputs}
    return all(call.inputs[:1] and call.inputs[0] in made for call in flow.calls[activation])
