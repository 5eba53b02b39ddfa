"""Which norm's output it is that a layer puts out."""

from collections import Counter
from collections.abc import Callable, Iterator

from torch import fx, nn

from normlab.tools.forwards import Forward, forward_of
from normlab.tools.plain import has_any_hooks, is_identity
from normlab.tools.recognized import activation_of
from normlab.tools.taken_apart import why_apart


class Structure:
    """The layers of a model, as far as they can be followed without a run.

    Args:
        model: the model.
        is_asked: whether this is a norm that is looked for.
    """

    def __init__(self, model: nn.Module, is_asked: Callable[[nn.Module], bool]) -> None:
        self.is_asked = is_asked
        self.names = {module: name for name, module in reversed(list(model.named_modules(remove_duplicate=False)))}
        self.places = Counter(child for each in model.modules() for child in each._modules.values())
        self.forwards: dict[nn.Module, Forward | str] = {}
        self.apart: dict[nn.Module, str] = {}
        for module in model.modules():  # those outside first
            for name, child in module._modules.items():
                if child is not None and is_chain(child):
                    inherited = self.apart.get(module, "") if is_chain(module) else ""
                    self.apart[child] = inherited or why_apart(self.word(module), type(module), name)

    def word(self, module: nn.Module) -> str:
        """Type and name."""
        name = self.names[module]
        return f"{type(module).__name__} `{name}`" if name else type(module).__name__

    def why_not_alone(self, activation: nn.Module) -> str:
        """Why an activation cannot be left to the norm before it; empty if it can."""
        word = f"{type(activation).__name__} after it"
        if has_any_hooks(activation):
            return f"{word} has hooks"
        places = self.places[activation]
        return f"{word} stands at {places} places" if places > 1 else ""

    def ends_with(self, module: nn.Module) -> list[nn.Module]:
        """The way from a layer down to the norm whose output it puts out; empty if it does not put out that of one."""
        if self.places[module] != 1 or has_any_hooks(module) or type(module).__call__ is not nn.Module.__call__:
            return []
        if self.is_asked(module):
            return [module]
        if is_list(module) or not any(map(self.is_asked, module.modules())):
            return []
        inner = self._last_of_chain(module) if is_chain(module) else self._last_of_forward(module)
        return [module, *inner] if inner else []

    def norms_in(self, module: nn.Module) -> list[nn.Module]:
        """The norms whose outputs a forward gets from the layers that it calls."""
        return [way[-1] for part in parts(module) if (way := self.ends_with(part))]

    def forward(self, module: nn.Module) -> Forward | str:
        """What a module does, with those layers taken apart that end with a norm; or what speaks against it."""
        if module not in self.forwards:
            inside = {each for part in parts(module) for each in self.ends_with(part)[:-1]}
            self.forwards[module] = forward_of(module, inside)
        return self.forwards[module]

    def _last_of_chain(self, module: nn.Module) -> list[nn.Module]:
        last = next((each for each in reversed(module._modules.values()) if each and not is_identity(each)), None)
        return [] if last is None else self.ends_with(last)

    def _last_of_forward(self, module: nn.Module) -> list[nn.Module]:
        found = self.forward(module)
        if isinstance(found, str):
            return []
        layers = dict(module.named_modules(remove_duplicate=False))
        value = next(each for each in found.graph.nodes if each.op == "output").args[0]
        while isinstance(value, fx.Node) and value.op == "call_module" and len(value.users) == 1:
            names = str(value.target).split(".")
            way = [layers[".".join(names[:length])] for length in range(1, len(names) + 1)]
            if self.is_asked(way[-1]):
                return way
            if not is_identity(way[-1]):
                break
            (value,) = value.args
        return []


def parts(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that a forward calls by their names, out of lists as well."""
    for child in filter(None, module._modules.values()):
        if is_list(child):
            yield from parts(child)
        else:
            yield child


def is_list(module: nn.Module) -> bool:
    """Whether a module holds layers for others to call, and has no forward.

    Example:
        >>> is_list(nn.ModuleList()), is_list(nn.Sequential())
        (True, False)
    """
    return type(module).forward is nn.Module.forward and "forward" not in vars(module)


def is_chain(module: nn.Module) -> bool:
    """Whether a module calls its layers one after the other, and does nothing else.

    Example:
        >>> is_chain(nn.Sequential()), is_chain(nn.ReLU())
        (True, False)
    """
    its_class = type(module)
    plain = its_class.forward is nn.Sequential.forward and its_class.__call__ is nn.Module.__call__
    return plain and "forward" not in vars(module)


def has_activation(module: nn.Module) -> bool:
    """Whether an activation is among the layers that a forward calls."""
    return any(activation_of(each) for each in parts(module))
