"""Weights into a model: every one in its place, or none."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from normlab.errors import InvalidInputError
from normlab.tools.load_weights import load_weights_
from normlab.tools.weights import Weights


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model(torch.randn(8, 3))
    return model


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("prefix", "notes"),
    [
        ("", ()),
        ("module.", ("took `module.` off every name",)),
        ("_orig_mod.", ("took `_orig_mod.` off every name",)),
        ("module._orig_mod.", ("took `module.` off every name", "took `_orig_mod.` off every name")),
        ("_orig_mod.module.", ("took `_orig_mod.` off every name", "took `module.` off every name")),
    ],
)
def test_prefixes_of_wrappers_are_taken_off(prefix: str, notes: tuple[str, ...]) -> None:
    given, model = state(network(0)), network(1)
    assert load_weights_(model, Weights({prefix + name: each for name, each in given.items()})) == notes
    assert_same(state(model), given)


def test_a_model_that_has_the_prefix_itself_keeps_it() -> None:
    class Holder(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.module = network(seed)

    given, model = state(Holder(0)), Holder(1)
    assert load_weights_(model, Weights(given)) == ()
    assert_same(state(model), given)
    load_weights_(model, Weights({f"module.{name}": each for name, each in state(Holder(2)).items()}))
    assert_same(state(model), state(Holder(2)))


def test_averaged_weights_are_loaded_into_the_model_itself() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(network(0))
    averaged.update_parameters(averaged.module)
    model = network(1)
    assert load_weights_(model, Weights(averaged.state_dict())) == (
        "left out `n_averaged`: the weights are an average of 1",
        "took `module.` off every name",
    )
    assert_same(state(model), state(averaged.module))


def test_a_tensor_with_two_names_may_come_by_one() -> None:
    def tied(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.ModuleDict({"embed": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False)})
        model["head"].weight = model["embed"].weight
        return model

    for left_out in ("embed.weight", "head.weight"):
        given, model = state(tied(0)), tied(1)
        del given[left_out]
        assert load_weights_(model, Weights(given)) == ()
        assert_same(state(model), state(tied(0)))


def test_a_counter_that_old_files_have_not_may_be_missing() -> None:
    given, model = state(network(0)), network(1)
    del given["1.num_batches_tracked"]
    assert load_weights_(model, Weights(given)) == ()


def test_weights_that_torch_renames_are_loaded() -> None:
    """`weight_norm` reads what its forerunner wrote."""
    model = parametrizations.weight_norm(nn.Linear(3, 2))
    given = {"weight_g": torch.rand(2, 1), "weight_v": torch.rand(2, 3), "bias": torch.rand(2)}
    assert load_weights_(model, Weights(given)) == ()
    assert torch.equal(model.parametrizations.weight.original0, given["weight_g"])


def test_another_precision_is_said() -> None:
    given = {name: each.half() if each.is_floating_point() else each for name, each in state(network(0)).items()}
    model = network(1)
    assert load_weights_(model, Weights(given)) == ("weights in float16 became float32, as the model has them",)
    assert torch.equal(model[0].weight, given["0.weight"].float())


@pytest.mark.parametrize(
    ("change", "metadata", "text"),
    [
        (
            {"1.weight": None, "1.bias": None, "1.running_mean": None, "1.running_var": None, "bn.weight": (4,)}, {},
            "in.pt: the names in the file must be those of the model.\n"
            "  got: 4 missing: 1.weight, 1.bias, 1.running_mean and 1 more; 1 left over: bn.weight\n"
            "  fix: rename `bn.weight` to `1.weight`, or give the function that makes the model which these weights "
            "are of.",
        ),
        (
            {"zzz": (1,)}, {},
            "in.pt: the names in the file must be those of the model.\n  got: 1 left over: zzz\n"
            "  fix: give the function that makes the model which these weights are of.",
        ),
        (
            {"1.running_var": None}, {"normlab.load": "after `fold_`"},
            "in.pt: the names in the file must be those of the model.\n  got: 1 missing: 1.running_var\n"
            "  fix: they are to be loaded after `fold_`.",
        ),
        (
            {"0.weight": (4, 5), "2.weight": (2, 5)}, {},
            "in.pt: the weights must have the shapes that they have in the model.\n"
            "  got: 0.weight (4, 5), in the model (4, 3); 2.weight (2, 5), in the model (2, 4)\n"
            "  fix: give the function that makes the model which these weights are of.",
        ),
    ],
    ids=["names", "left over", "folded", "shapes"],
)  # fmt: skip
def test_what_does_not_fit_is_listed_and_nothing_is_loaded(change: Any, metadata: dict[str, str], text: str) -> None:
    given, model = state(network(0)), network(1)
    for name, shape in change.items():
        given.pop(name, None)
        if shape is not None:
            given[name] = torch.ones(shape)
    before = copy.deepcopy(state(model))
    with pytest.raises(InvalidInputError) as caught:
        load_weights_(model, Weights(given, metadata), "in.pt")
    assert str(caught.value) == text
    assert_same(state(model), before)
