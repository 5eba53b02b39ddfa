"""A network of the user's, with its norms swapped for those of the variant."""

from weakref import WeakSet

import torch
from torch import nn

from normlab import errors
from normlab.lab.config import RunConfig
from normlab.lab.data.dataset import Dataset
from normlab.lab.own import called, own_function, raised, seeded
from normlab.lab.streams import stream_seed
from normlab.lab.tensors import tensor
from normlab.tools.kinds import kind_of
from normlab.tools.ready import wrapper_in
from normlab.tools.report import Report
from normlab.tools.swap import swap_

EXAMPLES = 4  # samples that are passed through to see the shapes
_given: WeakSet[nn.Module] = WeakSet()  # every layer with weights that has been in a run


def own_model(config: RunConfig, data: Dataset) -> tuple[nn.Module, Report]:
    """The network that the user's function makes under the seed, and which of its norms were swapped.

    The seeds of torch, NumPy and Python are set before the function is called, so that all variants of one seed start
    from the same weights. Settings of norms other than the defaults hold for every norm of the variant; the defaults
    leave those alone that the network comes with.

    Raises:
        UsageError: the function raises or makes no network, or the network does not take the data.
    """
    name = config.model.factory
    example = tensor(data.x_train[:EXAMPLES], config)
    with seeded(stream_seed(config.seed, "init")):
        model = _made(name)
        if any(map(nn.parameter.is_lazy, (*model.parameters(), *model.buffers()))):
            _materialize(name, model, example)
    model.to(device="cpu", dtype=getattr(torch, config.dtype))
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # in eval mode; what is recorded must have a shape
    try:
        report = swap_(
            model,
            config.norm,
            example=example,
            eps=config.norm_eps,
            momentum=config.running_momentum,
            groups=config.norm_groups,
        )
    except Exception as error:
        raise not_taken(name, "the network does not take the data", error, example) from error
    _set_asked(config, model, report)
    model.train()
    return model, report


def settings_of(module: nn.Module) -> dict[str, str]:
    """The keys of a config that are settings of such a norm, each with the attribute that the layer has it in.

    Example:
        >>> settings_of(nn.GroupNorm(2, 8))
        {'norm_eps': 'eps', 'norm_groups': 'num_groups'}
    """
    kind = kind_of(module)
    own = {"batch": {"norm_momentum": "momentum"}, "group": {"norm_groups": "num_groups"}}
    return {"norm_eps": "eps"} | own.get(kind or "", {})


def _set_asked(config: RunConfig, model: nn.Module, report: Report) -> None:
    """Settings other than the defaults hold for the layers too that stay because they are of the kind already."""
    for each in report.skipped:
        module = model.get_submodule(each.name)
        for key, attribute in settings_of(module).items() if each.same else ():
            wanted, usual = getattr(config, key), RunConfig.model_fields[key].default
            divides = key != "norm_groups" or module.num_channels % wanted == 0
            if wanted != usual and divides and not isinstance(wanted, str):
                setattr(module, attribute, wanted)


def not_taken(name: str, what: str, error: Exception, x: torch.Tensor) -> errors.UsageError:
    """A network has raised on a batch: what it raised and where, and what the batch was."""
    found = raised(name, error)
    arrived = errors.describe(x=x)
    if x.is_floating_point():
        fix = f"one batch is {arrived}."
    elif x.dtype in (torch.int64, torch.int32):
        numbers = f"x is integers from {x.min()} to {x.max()}, {arrived}"
        fix = f"{numbers}; return floats, unless the network begins with an Embedding."
    else:
        fix = f"x is integers, {arrived}; convert it to floats, for instance x / 255."
    problem = errors.Problem(f"{what}: {found.rule}", got=found.got, fix=fix)
    return errors.UsageError(errors.message(name, problem))


def _made(name: str) -> nn.Module:
    if isinstance(own_function(name), nn.Module):
        fix = "write a function that returns a new one each time."
        raise _refused(name, "this is a network, not a function that makes one.", "", fix)
    model = called(name)
    if not isinstance(model, nn.Module):
        raise _refused(name, "the function must return a torch.nn.Module.", type(model).__name__, "")
    layers = [each for each in model.modules() if each._parameters or each._buffers]
    again = next((each for each in layers if each in _given), None)
    if again is not None:
        rule = "the function must return a new network each time, as every run trains one of its own."
        fix = "build its layers in the function, or return copy.deepcopy of what is loaded once."
        raise _refused(name, rule, f"the same {type(again).__name__} a second time", fix)
    _given.update(layers)
    if wrapped := wrapper_in(model):
        rule = "the network must not be compiled, scripted or wrapped, as its layers are swapped and watched."
        raise _refused(name, rule, wrapped, "return it as it was before that.")
    return model


def _materialize(name: str, model: nn.Module, example: torch.Tensor) -> None:
    """Gives lazy layers their weights, under the seed."""
    first = example.float() if example.is_floating_point() else example
    try:
        with torch.no_grad():
            model.eval()
            model(first)
    except Exception as error:
        raise not_taken(name, "the network does not take the data", error, example) from error


def _refused(name: str, rule: str, got: str, fix: str) -> errors.UsageError:
    return errors.UsageError(errors.message(name, errors.Problem(rule, got=got, fix=fix)))
