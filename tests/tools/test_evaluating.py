"""Modes inside the block and after it."""

import pytest
import torch
from torch import nn

from normlab.errors import InvalidInputError
from normlab.tools.evaluating import inference
from normlab.tools.freeze import freeze_, unfreeze_


class OwnTrain(nn.Module):
    """A `train` that does something of its own, which a visit must not set off."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.calls = nn.BatchNorm1d(2), 0

    def train(self, mode: bool = True) -> "OwnTrain":
        self.calls += 1
        super().train(mode)
        self.norm.training = False
        return self


def network() -> nn.Sequential:
    shared = nn.Dropout()
    return nn.Sequential(shared, nn.BatchNorm1d(2), nn.Sequential(shared, nn.BatchNorm1d(2).eval()), OwnTrain())


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_everything_is_in_eval_mode_inside_and_as_before_after() -> None:
    model = network()
    before, statistics = modes(model), {name: value.clone() for name, value in model.state_dict().items()}
    with inference(model) as inside:
        assert inside is model
        assert not any(modes(model))
        x = torch.randn(5, 2, requires_grad=True)
        y = model[:2](x)
        assert torch.equal(y, x / (1 + 1e-5) ** 0.5)
        assert y.requires_grad
    assert modes(model) == before
    assert model[3].calls == 0
    assert all(torch.equal(value, statistics[name]) for name, value in model.state_dict().items())


def test_an_error_does_not_leave_it_in_eval_mode() -> None:
    model = network()
    before = modes(model)
    with pytest.raises(KeyError), inference(model):
        raise KeyError
    assert modes(model) == before


def test_nested_blocks() -> None:
    model = network()
    before = modes(model)
    with inference(model):
        with inference(model[2]):
            model.train()
        assert not any(modes(model[2]))
        assert model[1].training
    assert modes(model) == before


def test_layers_that_leave_or_join_inside() -> None:
    model = network()
    gone, joined = model[1], nn.Dropout()
    with inference(model):
        model[1] = joined
        assert joined.training
    assert gone.training
    assert joined.training


def test_a_frozen_layer_remembers_what_was_asked_of_it() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    freeze_(model)
    with inference(model):
        pass
    unfreeze_(model)
    assert model[0].training


def test_a_root_without_layers_inside() -> None:
    dropout = nn.Dropout()
    with inference(dropout):
        assert not dropout.training
    assert dropout.training


def test_what_is_no_model() -> None:
    with pytest.raises(InvalidInputError) as raised, inference([nn.Dropout()]):  # type: ignore[type-var]
        pass
    assert str(raised.value) == (
        "inference: `model` must be a torch.nn.Module.\n  got: list\n  fix: pass the model first."
    )
