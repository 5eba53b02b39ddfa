"""Some norms of a model folded, and a new model folded as a trained one was, whatever its values."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from normlab.errors import InvalidInputError
from normlab.tools import drop_bias_, fold_

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def trained(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.running_mean.normal_(generator=generator)
                each.running_var.uniform_(0.5, 2, generator=generator)
                each.bias.normal_(generator=generator)
    return model.eval()


def run(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(X)


def padded() -> nn.Module:
    """The first norm can be folded where its shift is zero, as in a new model, and not when it is trained."""
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
    )  # fmt: skip


def two_ways() -> nn.Module:
    """The second norm goes into the layer before it; a new one could go into that after it, as its shift is zero."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
    )  # fmt: skip


@pytest.mark.parametrize("border", ["refuse", "pad"])
@pytest.mark.parametrize("make", [padded, two_ways])
def test_a_new_model_is_folded_as_the_trained_one_was(make: Callable[[], nn.Module], border: Any) -> None:
    model = trained(make())
    before = run(model)
    names = [each.name for each in fold_(model, X, border=border).touched]
    assert (before - run(model)).abs().max() <= 1e-5 * before.abs().max()
    fresh = make()
    report = fold_(fresh, X, where=names, border=border, tolerance=math.inf)
    assert [each.name for each in report.touched] == names
    assert not report.skipped  # what is not asked for is not in it
    assert repr(fresh) == repr(model)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(run(fresh), run(model))


def test_only_what_is_asked_for_is_folded() -> None:
    for where in ("2", ["2"], lambda name, norm: norm.num_features == 4):
        model = padded()
        assert [each.name for each in fold_(model, X, where=where).touched] == ["2"]
        assert type(model[0]) is nn.BatchNorm2d
    with pytest.raises(InvalidInputError) as raised:
        fold_(padded(), X, where="bn")
    assert str(raised.value) == "fold_: `where` must name a norm layer.\n  got: 'bn'\n  fix: choose one of: 0, 2."


def test_without_a_bound_any_error_is_taken() -> None:
    model = trained(two_ways())
    assert not fold_(copy.deepcopy(model), X, tolerance=0.0).touched
    assert len(fold_(model, X, tolerance=math.inf).touched) == 2


def test_wrong_settings_are_said_all_at_once() -> None:
    with pytest.raises(InvalidInputError) as raised:
        fold_(padded(), X, tolerance="a", border=None)
    assert str(raised.value) == (
        "fold_: `tolerance` must be a number that is not negative.\n  got: tolerance = 'a'\n  fix: pass 1e-4.\n"
        "fold_: `border` must be one of refuse, pad.\n  got: None\n  fix: choose one of: refuse, pad."
    )


@pytest.mark.parametrize("tool", [fold_, drop_bias_])
@pytest.mark.parametrize(
    ("example", "got"),
    [
        (torch.full((1, 3, 8, 8), math.nan), "outputs (1, 4, 6, 6), none finite"),
        (torch.zeros(0, 3, 8, 8), "outputs (0, 4, 6, 6), empty"),
    ],
    ids=["nan", "empty"],
)
def test_an_example_that_shows_nothing_is_refused(tool: Callable[..., Any], example: torch.Tensor, got: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InvalidInputError) as raised:
        tool(model, example)
    assert str(raised.value) == (
        f"{tool.__name__}: `example` must give outputs with finite values, to be compared.\n"
        f"  got: {got}\n  fix: pass a batch as the model gets it in use."
    )
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
