"""A norm in evaluation mode for good, and back."""

from typing import Any

from torch import nn

from normlab.layers.combined import combined

LEARNED = ("weight", "bias")


class Frozen(nn.Module):
    """In front of the class of a norm, keeps it in evaluation mode.

    What `train()` and `eval()` ask for is remembered, and holds as soon as this class is taken away. An assignment to
    `training` changes nothing: it is how tools restore the mode that they have read. A scripted copy of the layer is
    another module, which `train()` wakes.
    """

    normlab_frozen = True
    normlab_before: dict[str, Any]  # what was changed beside the class: requires_grad by name, and `commit_when`

    @property
    def training(self) -> bool:
        return False

    @training.setter
    def training(self, mode: bool) -> None:
        pass

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        vars(self)["training"] = mode
        return self


def freeze_layer(module: nn.Module) -> None:
    theirs = type(module)
    made = combined(f"Frozen{theirs.__name__}", Frozen, theirs)
    before: dict[str, Any] = {}
    if getattr(module, "commit_when", "mode") == "always":  # in evaluation too
        before["commit_when"] = "always"
        vars(module)["commit_when"] = "never"
    module.__class__ = made
    vars(module)["normlab_before"] = before


def class_before(module: nn.Module) -> type[nn.Module] | None:
    """The class that a layer had before it was frozen; None if it is not, or was made another since."""
    made_of = vars(type(module)).get("combined_of", ())
    return made_of[-1] if made_of[1:2] == (Frozen,) else None


def unfreeze_layer(module: nn.Module) -> str:
    """Why it cannot be unfrozen; empty if it now is."""
    theirs = class_before(module)
    if theirs is None:
        return f"it was made a {type(module).__name__} after it was frozen: undo that first"
    module.__class__ = theirs
    for name, before in vars(module).pop("normlab_before").items():
        parameter = module._parameters.get(name)
        if parameter is not None:
            parameter.requires_grad_(before)
        elif name not in LEARNED:
            setattr(module, name, before)
    return ""


def let_learn(module: nn.Module, wanted: bool, kept: set[int]) -> str:
    """Lets weight and bias of a frozen layer be trained, or not; returns what that changed, in words.

    Those in `kept`, by identity, are another layer's too, and are left as they are.
    """
    before = vars(module)["normlab_before"]
    changed, left = [], []
    for name in LEARNED:
        parameter = module._parameters.get(name)
        if parameter is None or parameter.requires_grad == wanted:
            continue
        if id(parameter) in kept:
            left.append(name)
            continue
        changed.append(name)
        before.setdefault(name, parameter.requires_grad)
        parameter.requires_grad_(wanted)
        if not wanted:
            parameter.grad = None  # an optimizer would go on applying it
    words = [f"{' and '.join(changed)} {'can be trained' if wanted else 'not trained'}"] if changed else []
    words += [f"{' and '.join(left)} left as before, being another layer's too"] if left else []
    return ", ".join(words)
