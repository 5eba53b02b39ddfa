"""Norms that do what follows them, where a run or the structure of a model shows what that is."""

from collections.abc import Sequence

from torch import nn

from normlab.tools.activations import leave_to_the_norm
from normlab.tools.dataflow import Flow
from normlab.tools.followers import WRITES_LEFT, Chain, chain_of
from normlab.tools.forwards import METHOD, Forward
from normlab.tools.plain import has_any_hooks, is_dropout, is_identity
from normlab.tools.recognized import Follows, activation_of
from normlab.tools.rewritten import Rewritten, Site, rewritten_class
from normlab.tools.seen import Seen, Shown
from normlab.tools.structure import Structure, has_activation, is_chain, is_list
from normlab.tools.with_act import class_with_act, let_do


class Fusing:
    """A model, and what becomes of each of its norms: `done`, or left, for one of the `reasons` if there is one."""

    def __init__(self, model: nn.Module, flows: Sequence[Flow]) -> None:
        self.model = model
        self.seen = Seen(flows)
        self.structure = Structure(model, self.is_open)
        self.classes = {each: found for each in model.modules() if (found := class_with_act(each)) is not None}
        self.reasons = {each: "it has hooks" for each in self.classes if has_any_hooks(each)}
        self.done: dict[nn.Module, Follows] = {}

    def is_open(self, norm: nn.Module) -> bool:
        """Whether this is a norm that could do what follows it, and does not yet."""
        return norm in self.classes and norm not in self.done and not has_any_hooks(norm)

    def fuse(self) -> None:
        """What the runs show, then what each module shows, those inside first."""
        shown = self.seen.activations(each for each in self.classes if self.is_open(each))
        for norm, found in shown.items():
            if isinstance(found, Shown):
                self._leave_to(norm, found.activation, found.follows)
            elif found:
                self.reasons[norm] = found
        for module in reversed(list(self.model.modules())):
            if is_chain(module):
                self._in_chain(module)
            elif not is_list(module) and module not in self.classes:
                self._in_forward(module)
        for norm in list(self.reasons):
            if norm in self.done or (self.seen.calls(norm) and not self.seen.is_followed(norm)):
                del self.reasons[norm]

    def _in_chain(self, module: nn.Module) -> None:
        """Norms behind which an activation stands, in what calls its layers one after the other."""
        norm: nn.Module | None = None
        drops = False
        for child in filter(None, module._modules.values()):
            if is_identity(child):
                continue
            if is_dropout(child):
                drops = True
                continue
            follows = None if norm is None or self.seen.calls(norm) else activation_of(child)
            if norm is not None and follows is not None and (follows.activation == "relu" or not drops):
                if reason := self.structure.apart.get(module, "") or self.structure.why_not_alone(child):
                    self.reasons[norm] = reason
                else:
                    self._leave_to(norm, child, follows)
            norm, drops = next(reversed(self.structure.ends_with(child)), None), False

    def _in_forward(self, module: nn.Module) -> None:
        """Norms that a forward calls itself, or whose output it gets from a layer that ends with one."""
        norms = self.structure.norms_in(module)
        if not norms:
            return
        found = self.structure.forward(module)
        if isinstance(found, str):
            helps = "" if self.seen.flows or not has_activation(module) else "; pass `example`, to see what follows"
            self._keep(norms, module, found + helps)
            return
        layers = dict(module.named_modules(remove_duplicate=False))
        sites: dict[nn.Module, Site] = {}
        for chain in self._chains(found, layers):
            norm = layers[str(chain.norm.target)]
            activation = None if self.seen.calls(norm) else self._its_own(chain, found, layers)
            method = str(chain.norm.meta.get(METHOD, "_"))
            if reason := self._why_not_only_here(norm, module):
                self.reasons[norm] = reason
            elif activation is None and not method.startswith("_"):
                self._keep([norm], module, f"does so in `{method}`, which others may call too")
            elif activation is None:
                sites[norm] = Site(str(chain.norm.target), chain.follows)
            else:
                self._leave_to(norm, activation, chain.follows)
        if sites:
            self._rewrite(module, sites)

    def _chains(self, found: Forward, layers: dict[str, nn.Module]) -> list[Chain]:
        """What follows each norm. Of two that are added up one does it: that which is written into, or the later."""
        chains: list[Chain] = []
        for node in found.graph.nodes:
            if node.op == "call_module" and self.is_open(norm := layers[str(node.target)]):
                chain = chain_of(node, layers)
                if isinstance(chain, Chain):
                    chains.insert(0, chain)
                elif chain:
                    self.reasons[norm] = chain
        chosen: list[Chain] = []
        for chain in sorted(chains, key=lambda each: each.place.target not in WRITES_LEFT or each.is_right()):
            if not any(set(chain.nodes) & set(other.nodes) for other in chosen):
                chosen.append(chain)
        return chosen

    def _its_own(self, chain: Chain, found: Forward, layers: dict[str, nn.Module]) -> nn.Module | None:
        """The activation of a norm, where it can be left to that without another forward."""
        last = chain.nodes[-1]
        if last.op != "call_module" or chain.residual is not None:
            return None
        if any(each.value is not None for each in found.reads):  # another forward notices if they change
            return None
        times = sum(each.op == "call_module" and each.target == last.target for each in found.graph.nodes)
        activation = layers[str(last.target)]
        return None if times > 1 or self.structure.why_not_alone(activation) else activation

    def _why_not_only_here(self, norm: nn.Module, module: nn.Module) -> str:
        """Why a forward may not be all that reads the output of a norm; empty if it is."""
        if self.seen.calls(norm) != self.seen.calls(module):
            return f"it is called elsewhere than in {self.structure.word(module)} too"
        return self.seen.read_elsewhere(norm)

    def _rewrite(self, module: nn.Module, sites: dict[nn.Module, Site]) -> None:
        theirs = type(module)
        if issubclass(theirs, Rewritten):
            made: type[nn.Module] | str = "was rewritten before"
        elif any(getattr(theirs, name) is not getattr(object, name) for name in ("__reduce__", "__reduce_ex__")):
            made = "is pickled in a way of its own"
        else:
            made = rewritten_class(module, theirs, tuple(sites.values()))
        if isinstance(made, str):
            self._keep(list(sites), module, made)
            return
        module.__class__ = made
        self.structure.forwards.pop(module, None)
        for norm, site in sites.items():
            let_do(norm, self.classes[norm], site.follows)
            self.done[norm] = site.follows

    def _leave_to(self, norm: nn.Module, activation: nn.Module, follows: Follows) -> None:
        leave_to_the_norm(activation)
        let_do(norm, self.classes[norm], follows)
        self.done[norm] = follows

    def _keep(self, norms: Sequence[nn.Module], module: nn.Module, reason: str) -> None:
        self.reasons |= dict.fromkeys(norms, f"{self.structure.word(module)}, which calls it, {reason}")
