"""The norms of a model made ours where they stand, and fused with what follows them."""

from typing import Any

import torch
from torch import nn

from normlab import errors
from normlab.layers.adopt import our_class
from normlab.layers.batch_norm_act import BatchNormActOptions
from normlab.layers.combined import combined
from normlab.layers.explicit import Explicit
from normlab.ops.lean import stay_lean
from normlab.tools.answers import Answers, answers_of, difference, fresh, moved_by_roundings, tolerance
from normlab.tools.called import unfit
from normlab.tools.dataflow import trace
from normlab.tools.fold_verify import nothing_to_compare
from normlab.tools.frozen import Frozen, class_before
from normlab.tools.fusing import Fusing
from normlab.tools.intact import intact
from normlab.tools.kinds import described, norms_of, own_type
from normlab.tools.norms import NoNorm, norm_in
from normlab.tools.report import Report, Skipped, Touched

ALREADY = "it is ours already"


def accelerate_(model: nn.Module, example: Any = None, *, lean: bool = False) -> Report:
    """Makes the norms of PyTorch in a model ours, in place, and lets batch norms do what follows them.

    What a model computes stays: values, gradients, running statistics; so do names and values in the `state_dict`,
    parameters that an optimizer holds, hooks, subclasses, frozen layers. Each norm is given another class. A batch norm
    followed by an activation (ReLU, leaky ReLU, SiLU, exact GELU), by a sum with something else, or by both, does
    that too, as `normlab.layers.BatchNormAct*`. The activation still stands in its place and does nothing; where it is
    a function, serves several places, or comes after a sum, the module that calls the norm is given a forward without
    it, if its own does the same at every call.

    Change layers before, not afterwards: who puts another norm in the place of such a one, as
    `convert_sync_batchnorm` does, also takes out what it does beside (`sync_` does not). A hook that is put on a norm
    afterwards sees what that does beside as well; a rewritten forward does not call the activations that its norms do,
    and calls the layers beside a norm that adds past the modules around them, so that hooks there see nothing. To keep
    the model as it was, `deepcopy` it before.

    Args:
        model: a network that is not compiled, scripted or wrapped, in any mode; equal to the bit afterwards if this
            raises.
        example: what the model is called with, of at least two samples: a tensor, a tuple or list of arguments, or a
            mapping of named ones. With it activations are found in modules of any kind, and outputs, gradients and
            statistics in train mode and in eval mode are compared with what they were. Without it that is fused which
            is sure from how the layers stand, or from the graph of a forward.
        lean: whether each forward keeps less for backward, as within `normlab.lean`, which says where that serves.

    Returns:
        Every norm: what it is now, or why it was kept; after a semicolon, why it is not fused with what follows it.

    Raises:
        InvalidInputError: the model is wrapped or has lazy layers, its outputs on the example are empty or nowhere
            finite, or the example shows that it would compute something else. What the model itself raises on the
            example passes through.

    Differs from torch:
        There is no such function: `torch.ao.quantization.fuse_modules` wants the names of the layers, and for training
        knows no sum.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> accelerate_(model).touched[0].change, model[1].activation, model[2]
        ('ours, with relu', 'relu', ReLU(done by the norm before it))
    """
    errors.invalid_input("accelerate_", unfit(model, "accelerate"))
    found = norms_of(model)
    norms = {name: norm_in(module) for name, module in found.items()}
    words = {name: described(module) for name, module in found.items()}
    error = None
    with intact(model):
        before = [] if example is None else answers_of(model, example)
        outputs = [each for answers in before for each in answers.outputs]
        errors.invalid_input("accelerate_", nothing_to_compare(outputs))
        flows = [] if example is None else [trace(model, fresh(example), training) for training in (False, True)]
        kept = {norm: _make_ours(norm) for norm in norms.values()}
        fusing = Fusing(model, flows)
        with torch.random.fork_rng(devices=[]):  # a forward may draw numbers also where it is followed in a graph
            fusing.fuse()
        if example is not None:
            error = _verified(model, example, before)
    if lean:
        stay_lean(model)
    touched: list[Touched] = []
    skipped: list[Skipped] = []
    for name, norm in norms.items():
        follows, reason = fusing.done.get(norm), fusing.reasons.get(norm, "")
        if follows is not None:
            touched.append(Touched(name, words[name], f"ours, {follows.words()}"))
        elif not kept[norm]:
            touched.append(Touched(name, words[name], "; ".join(filter(None, ("ours", reason)))))
        else:
            said = "; ".join(filter(None, (kept[norm], reason)))
            skipped.append(Skipped(name, words[name], said, same=kept[norm].startswith(ALREADY)))
    return Report("accelerated", tuple(touched), tuple(skipped), error)


def _make_ours(norm: nn.Module) -> str:
    """Gives a norm our class, or says why not; a frozen one stays frozen."""
    if isinstance(norm, NoNorm):
        return "there is no norm"
    if nn.utils.parametrize.is_parametrized(norm):
        return "its weight is computed by a parametrization"
    before = type(norm)
    norm.__class__ = own_type(norm)
    theirs, found = type(norm), our_class(norm)
    norm.__class__ = before
    if isinstance(found, str):
        return found
    if not isinstance(norm, nn.SyncBatchNorm):
        vars(norm).pop("unsynced_class", None)  # `unsync_` is to leave it ours
    if found is theirs:
        activation = norm.activation if isinstance(norm, BatchNormActOptions) else "none"
        return ALREADY if activation == "none" else f"{ALREADY}, with {activation}"
    norm.__class__ = combined(f"Frozen{found.__name__}", Frozen, found) if class_before(norm) else found
    if isinstance(norm, Explicit):
        norm.count_skipped()
    return ""


def _verified(model: nn.Module, example: Any, before: list[Answers]) -> float:
    """How far the model moved."""
    after = answers_of(model, example)
    error, where = difference(before, after)
    most = tolerance(model, before)
    if error > most:
        most = max(most, moved_by_roundings(model, example, after))
    if not error <= most:
        rule = "the accelerated model must compute what the model did; it is as before."
        got = f"{where} moved by {error:.1e} relative on the example, more than {most:.1e}"
        fix = "accelerate parts of it one by one, to find the one that is not what its forward says."
        errors.invalid_input("accelerate_", [errors.Problem(rule, got=got, fix=fix)])
    return error
