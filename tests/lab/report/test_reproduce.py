import shlex

import pytest

from normlab.lab import RECIPES, planned_runs, with_words
from normlab.lab.recipes.own import own_recipe
from normlab.lab.report.reproduce import command


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_as_it_comes_needs_no_words(name: str) -> None:
    assert command(RECIPES[name]) == f"normlab compare {name}"


@pytest.mark.parametrize(
    "words",
    [
        ["norm=batch"],
        ["norm=none,group", "norm_groups=4"],
        ["seeds=2", "seed=7", "optimizer.lr=0.01,0.1", "model.depth=4,8"],
        ["model.input_norm=true,false", "optimizer.name=adam", "optimizer.momentum=0", "norm_eps=0.001"],
        ["model.kind=conv", "norm=instance,rms", "init.bias=-0.5"],
    ],
)
def test_the_words_lead_back_to_the_same_runs(words: list[str]) -> None:
    recipe = with_words(RECIPES["deep-tanh"], words)
    said = shlex.split(command(recipe) or "")
    assert said[:3] == ["normlab", "compare", "deep-tanh"]
    assert planned_runs(with_words(RECIPES["deep-tanh"], said[3:])) == planned_runs(recipe)


def test_runs_chosen_by_hand_are_said_through_the_default_recipe() -> None:
    recipe = with_words(RECIPES["bad-init"], ["norm=batch", "seeds=1"]).model_copy(update={"name": "runs"})
    said = command(recipe) or ""
    assert said.startswith("normlab compare deep-tanh ")
    again = with_words(RECIPES["deep-tanh"], shlex.split(said)[3:])
    assert [run.config for run in planned_runs(again)] == [run.config for run in planned_runs(recipe)]


def test_what_no_command_can_say_is_not_made_up() -> None:
    recipe = RECIPES["deep-tanh"]
    unsayable = recipe.model_copy(update={"axes": {"norm": ("none", "batch"), "seed": (0, 5)}})
    assert command(unsayable) is None


def test_a_network_of_the_users_is_named_by_its_option() -> None:
    recipe = with_words(own_recipe("/a/my.py:make"), ["data=/a/my.py:load", "norm=batch,group", "seeds=3"])
    seen = recipe.model_copy(update={"base": recipe.base.model_copy(update={"task": "regression"})})
    assert command(seen) == ("normlab compare --model /a/my.py:make norm=batch,group data=/a/my.py:load seeds=3")


def test_several_processes_are_started_by_torchrun() -> None:
    recipe = with_words(RECIPES["deep-tanh"], ["processes=2"])
    assert command(recipe) == "torchrun --nproc-per-node 2 -m normlab compare deep-tanh"
