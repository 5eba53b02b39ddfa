"""What is said of the user's network, data, loss and metric before a run begins."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.lab.own_recipes import CODE, Write, refusal
from tests.lab.own_recipes import own as own
from tests.lab.own_recipes import write as write

from normlab.lab import RECIPES, Recipe, with_words
from normlab.lab.prepare import prepare, said_of_swaps
from normlab.tools.report import Report, Skipped, Touched


def test_what_is_ours_comes_back_as_it_is_and_torch_is_not_loaded() -> None:
    recipe = RECIPES["deep-tanh"]
    assert prepare(recipe) == (recipe, {})
    assert said_of_swaps({}) == []
    code = """
import sys
from normlab.lab import RECIPES
from normlab.lab.prepare import prepare, said_of_swaps
said_of_swaps(prepare(RECIPES["deep-tanh"])[1])
print("torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("data", "model", "task"), [("labels", "mlp", "classification"), ("values", "column", "regression")]
)
def test_the_task_is_that_of_the_data(own: Callable[..., Recipe], data: str, model: str, task: str) -> None:
    recipe, reports = prepare(own("norm_groups=4", data=data, model=model))
    assert recipe.base.task == task
    assert recipe == recipe.model_validate(recipe.model_dump())
    assert {name: report.title() for name, report in reports.items()} == {
        "batch": "0 of 1 norm layer swapped to batch norm, 1 already so",
        "group": "1 of 1 norm layer swapped to group norm",
        "layer": "1 of 1 norm layer swapped to layer norm",
    }


def test_nothing_is_drawn_and_each_network_is_made_once(own: Callable[..., Recipe]) -> None:
    recipe = own("norm=none,batch", "optimizer.lr=0.01,0.1,1", "batch=4,8", recipe="learning-rate")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    _, reports = prepare(recipe)
    assert torch.equal(torch.rand(3), expected)
    assert len(reports) == 12
    from normlab.lab.own import own_function

    calls = own_function(recipe.base.model.factory).__globals__["CALLS"]
    assert len(calls) == 3  # one of them made twice, to see that it repeats


@pytest.mark.parametrize(
    ("recipe", "words", "lost"),
    [
        ("weight-scale", (), "init.weight_std has"),
        ("dropout", (), "model.dropout has"),
        ("", ("model.width=128", "init.bias=1"), "model.width and init.bias have"),
    ],
)
def test_settings_of_our_networks_are_refused(
    own: Callable[..., Recipe], recipe: str, words: tuple[str, ...], lost: str
) -> None:
    assert refusal(own(*words, recipe=recipe)) == (
        f"compare: {lost} no meaning for a network of yours, which comes with its own weights and layers.\n"
        "  fix: set or vary norm, batch, optimizer.lr or another setting of the training."
    )


def test_a_sweep_needs_a_target_of_its_metric(own: Callable[..., Recipe]) -> None:
    recipe = own(recipe="learning-rate", model="column", data="values")
    assert refusal(recipe) == (
        "compare: a sweep counts the values of optimizer.lr at which the test mean squared error reaches `target`, and "
        "0.9 is meant for an accuracy.\n  fix: write target=VALUE."
    )
    prepare(with_words(recipe, ["target=0.5"]))
    prepare(own("norm_groups=4", recipe="batch-size"))  # whose target is an accuracy


@pytest.mark.parametrize(
    ("recipe", "norms", "question"),
    [
        ("learning-rate", ("none", "batch", "layer"), "How large may the learning rate be? (in my.py:mlp)"),
        ("batch-size", ("none", "batch", "layer", "group"), "How small may a batch be? (in my.py:mlp)"),
        ("resnet", None, "Which normalization suits my.py:mlp?"),
    ],
)
def test_a_recipe_is_asked_of_their_network(
    own: Callable[..., Recipe], recipe: str, norms: tuple[str, ...] | None, question: str
) -> None:
    changed, reports = prepare(own("norm_groups=4", *([] if norms else ["norm=none,batch"]), recipe=recipe))
    assert changed.question == question
    assert norms is None or changed.axes["norm"] == norms
    assert {report.done for report in reports.values()} == {
        f"swapped to {'no' if norm == 'none' else norm} norm" for norm in changed.axes["norm"]
    }
    assert changed.base.optimizer.name == RECIPES[recipe].base.optimizer.name


def test_statistics_of_evaluation_can_be_compared_in_their_network(own: Callable[..., Recipe]) -> None:
    _, reports = prepare(own(recipe="population"))
    assert [report.title() for report in reports.values()] == [
        "0 of 1 norm layer swapped to batch norm, 1 already so"
    ] * 5


@pytest.mark.parametrize(
    ("model", "words", "text"),
    [
        (
            "mlp", ("norm=batch,instance,group", "norm_groups=3"),
            "compare: norm=instance: the one norm layer of the network cannot be swapped.\n"
            "  got: 1: BatchNorm1d(8) kept, instance norm takes its moments over positions, and here are none\n"
            "  fix: leave norm=instance out.\n"
            "compare: norm=group: the one norm layer of the network cannot be swapped.\n"
            "  got: 1: BatchNorm1d(8) kept, 3 groups do not divide 8 channels\n"
            "  fix: set norm_groups to a smaller divisor of the channels, or leave norm=group out.",
        ),
        (
            "bare", ("norm=none,batch",),
            "compare: norm=batch: the network has no norm layer that could be swapped.\n"
            "  fix: build it with one, or compare another setting: norm=none optimizer.lr=0.01,0.1.",
        ),
        (
            "local", ("norm=none,rms",),
            "compare: norm=none: the one norm layer of the network cannot be swapped.\n"
            "  got: 1: LocalResponseNorm(2) kept, it normalizes across neighbouring channels, as no other norm does\n"
            "  fix: leave norm=none out.\n"
            "compare: norm=rms: the one norm layer of the network cannot be swapped.\n"
            "  got: 1: LocalResponseNorm(2) kept, it normalizes across neighbouring channels, as no other norm does\n"
            "  fix: leave norm=rms out.",
        ),
        (
            "grouped", ("norm=group", "norm_groups=3,4"),
            "compare: norm_groups=4 does not reach 1: GroupNorm(3, 30), which stays as it is.\n"
            "  got: num_groups=3\n  fix: build it so, or leave norm_groups=4 out.",
        ),
        (
            "mlp", ("norm=batch", "norm_eps=0.001,0.00001"), "",
        ),
        ("bare", ("norm=none", "optimizer.lr=0.1,0.2"), ""),
        ("local", ("norm=none", "optimizer.lr=0.1,0.2"), ""),
        ("mixed", ("norm=batch,instance,group", "norm_groups=4"), ""),  # each somewhere
    ],
)  # fmt: skip
def test_a_variant_that_would_be_the_network_as_it_is_is_refused(
    own: Callable[..., Recipe], model: str, words: tuple[str, ...], text: str
) -> None:
    recipe = own(*words, model=model)
    if text:
        assert refusal(recipe) == text
    else:
        prepare(recipe)


def test_a_default_that_norms_of_theirs_do_not_have_is_refused(write: Write, own: Callable[..., Recipe]) -> None:
    recipe = own("norm=group", "norm_groups=2,8", model="grouped")
    write(CODE.replace("nn.Linear(2, 30), nn.GroupNorm(3, 30), nn.Linear(30, 3)",
                       "nn.Linear(2, 16), nn.GroupNorm(4, 16), nn.Linear(16, 3)"))  # fmt: skip
    assert refusal(recipe) == (
        "compare: norm_groups=8 does not reach 1: GroupNorm(4, 16), which stays as it is.\n"
        "  got: num_groups=4\n  fix: build it so, or leave norm_groups=8 out."
    )


def test_what_is_said_of_swaps_is_short() -> None:
    swapped = Touched("1", "BatchNorm1d(8)", "to RMSNorm(8); its trained bias found no place there")
    same = Skipped("2", "BatchNorm1d(8)", "it is batch norm as it is", same=True)
    odd = tuple(Skipped(name, "Odd", "odd it is") for name in "34567")
    reports: dict[str, Any] = {
        "batch, batch=2": Report("swapped to batch norm", (), (same, same)),
        "batch, batch=4": Report("swapped to batch norm", (), (same, same)),
        "rms": Report("swapped to rms norm", (swapped,), odd),
    }
    assert said_of_swaps(reports) == [
        "0 of 2 norm layers swapped to batch norm, 2 already so",
        "1 of 6 norm layers swapped to rms norm",
        "  3, 4, 5 and 2 more: Odd kept, odd it is",
        "  1: BatchNorm1d(8) to RMSNorm(8); its trained bias found no place there",
    ]
