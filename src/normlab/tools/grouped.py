"""Which parameters weight decay should leave alone, by the layer that owns them."""

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from normlab import errors
from normlab.tools.kinds import kind_of, norms_of
from normlab.tools.norms import norm_in
from normlab.tools.ready import lazy_in, not_a_model
from normlab.tools.where import Where, chosen, unmatched

Named = tuple[str, nn.Parameter]


def param_groups(
    model: nn.Module, weight_decay: float, *, no_decay: Where[nn.Parameter] = None
) -> list[dict[str, Any]]:
    """Two groups for an optimizer: one that decays, and one with the biases and the weights of norms, that does not.

    What belongs to a norm is told by the type of its layer, also of norms that are not of PyTorch (`LlamaRMSNorm`). A
    bias is what its layer calls so: `bias`, `in_proj_bias`, `bias_hh_l0`. Everything else decays, embeddings and
    parameters of the user's own modules (class tokens, layer scales) among it. A parameter with several owners is there
    once, and does not decay if it is a bias or norm weight to one of them. Frozen ones are left out.

    Args:
        model: any network, wrapped for several processes or not. What is frozen now is in no group, even if it is
            trained later.
        weight_decay: of the first group.
        no_decay: what else must not decay, by name ("cls_token", "embed" is all within), by pattern ("*.gamma"),
            several of these, or a function of name and parameter.

    Returns:
        The groups, as every optimizer of torch takes them; `param_names` says what is in them, also in the
        `state_dict` of the optimizer. A group may be empty.

    Raises:
        InvalidInputError: the decay is not a number ≥ 0, `no_decay` names nothing, or parameters are lazy or flattened.

    Differs from torch:
        There is no such helper. The usual one, `parameter.ndim == 1`, takes in class tokens, layer scales and the
        `alpha` of a layer of the user's, and leaves out norms with a weight of several dimensions.

    Source:
        PyTorch issue 1402; van Laarhoven (2017), arXiv 1706.05350.

    Example:
        >>> groups = param_groups(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), 0.05)
        >>> [(group["weight_decay"], group["param_names"]) for group in groups]
        [(0.05, ['0.weight']), (0.0, ['0.bias', '1.weight', '1.bias'])]
    """
    errors.invalid_input("param_groups", not_a_model(model))
    named = list(model.named_parameters(remove_duplicate=False))
    errors.invalid_input("param_groups", _problems(model, weight_decay, no_decay, [name for name, _ in named]))
    spared = {id(each) for each in _spared(model)}
    if no_decay is not None:
        spared |= {id(each) for each in chosen(no_decay, named)}
    learned = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    return [
        _group([each for each in learned if id(each[1]) not in spared], weight_decay),
        _group([each for each in learned if id(each[1]) in spared], 0.0),
    ]


def _problems(
    model: nn.Module, weight_decay: float, no_decay: Where[nn.Parameter], names: list[str]
) -> Iterator[errors.Problem]:
    if not (isinstance(weight_decay, int | float) and 0 <= weight_decay < math.inf):
        yield errors.Problem("`weight_decay` must be a number, at least 0.", got=repr(weight_decay))
    yield from unmatched("no_decay", no_decay, names, "parameter")
    yield from lazy_in(model)
    if any(getattr(each, "_is_flat_param", False) for each in model.parameters()):
        rule = "`model` must have its parameters one by one: those of several layers are flattened into one."
        yield errors.Problem(rule, got="FlatParameter", fix="wrap it with use_orig_params=True.")


def _group(named: list[Named], weight_decay: float) -> dict[str, Any]:
    return {
        "params": [each for _, each in named],
        "weight_decay": weight_decay,
        "param_names": [name for name, _ in named],
    }


def _spared(model: nn.Module) -> Iterator[nn.Parameter]:
    """Biases, and weights of norms."""
    norms = set(map(norm_in, norms_of(model).values()))
    for module in model.modules():
        for name, parameter in _owned(module):
            if _is_bias(name) or (module in norms and _is_of_norm(module, parameter)):
                yield parameter


def _owned(module: nn.Module) -> Iterator[Named]:
    """The parameters of a layer by the name that it has for them; of a parametrized one, what they are computed of."""
    yield from module.named_parameters(recurse=False)
    if nn.utils.parametrize.is_parametrized(module):
        for name, made_of in module.parametrizations.named_children():  # type: ignore[union-attr]
            for parameter in made_of.parameters():
                yield name, parameter


def _is_bias(name: str) -> bool:
    return name == "bias" or name.startswith("bias_") or name.endswith("_bias")


def _is_of_norm(norm: nn.Module, parameter: nn.Parameter) -> bool:
    """Of what is only called a norm (`NormedLinear`), a matrix is no weight of a norm."""
    known = kind_of(norm) is not None or isinstance(norm, nn.modules.batchnorm._NormBase)
    return known or sum(size > 1 for size in parameter.shape) <= 1
