"""The program as it is called: exit codes, what goes where, and what is said of a wrong word."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Called

from normlab import __version__
from normlab.lab import RECIPES
from normlab.lab.config import RunConfig, keys


@pytest.fixture
def call(program: Callable[..., Called]) -> Callable[..., Called]:
    return program


def test_the_version(call: Callable[..., Called]) -> None:
    assert call("--version") == (0, f"normlab {__version__}\n", "")


def test_help_names_every_command(call: Callable[..., Called]) -> None:
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    lab = ("compare", "claims", "recipes", "report", "reproduce", "ls", "diff", "explain", "backends")
    assert all(f" {command} " in out for command in (*lab, "recalibrate", "freeze", "fold", "swap"))


def test_recipes_lists_every_recipe_and_every_key(call: Callable[..., Called]) -> None:
    code, out, err = call("recipes")
    assert (code, err) == (0, "")
    words = out.split()
    assert all(name in words for name in RECIPES)
    assert all(key in words for key in keys(RunConfig) if key != "schema_version")
    assert "seeds" in words
    assert all(recipe.takes in out for recipe in RECIPES.values())
    assert "deep-tanh is the default" in out


def test_one_recipe_is_shown_whole(call: Callable[..., Called]) -> None:
    code, out, err = call("recipes", "weight-scale")
    assert (code, err) == (0, "")
    assert "varies   norm=none,batch,layer init.weight_std=0.0001…1.0 (20 values)" in out
    assert "--quick  seeds=2 epochs=5" in out
    assert json.loads(call("recipes", "bias", "--json")[1])[0]["name"] == "bias"


def test_recipes_for_machines_are_the_recipes(call: Callable[..., Called]) -> None:
    code, out, err = call("recipes", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [json.loads(recipe.model_dump_json()) for recipe in RECIPES.values()]


WRONG = {
    "recipe": (["compare", "deep-tan"], "compare: there is no recipe `deep-tan`.\n  fix: did you mean `deep-tanh`?\n"),
    "key": (
        ["compare", "optimiser.lr=0.1"],
        "compare: `optimiser.lr` is not a key.\n  fix: did you mean `optimizer.lr`?\n",
    ),
    "value": (
        ["compare", "bad-init", "norm=bacth"],
        "compare: `norm`: input should be 'none', 'batch', 'layer', 'group', 'instance' or 'rms'.\n"
        "  got: 'bacth'\n  fix: did you mean `batch`?\n",
    ),
    "recipe after a setting": (
        ["compare", "norm=batch", "bad-init"],
        "compare: one recipe comes first, then settings as key=value.\n  got: norm=batch bad-init\n"
        "  fix: normlab compare bad-init norm=batch\n",
    ),
    "last part of a key": (
        ["compare", "lr=0.1"],
        "compare: `lr` is not a key.\n  fix: did you mean `optimizer.lr`?\n",
    ),
    "key given twice": (
        ["compare", "norm=batch", "norm=layer"],
        "compare: `norm` is given twice.\n  fix: write norm=VALUE,VALUE.\n",
    ),
    "several at once": (
        ["compare", "sed=1", "seeds=1,2"],
        "compare: `sed` is not a key.\n  fix: did you mean `seed`?\n"
        "compare: `seeds` takes one value.\n  got: 1,2\n  fix: seeds=5 runs five, seed=10 is the first of them.\n",
    ),
    "settings of another comparison": (
        ["compare", "--resume", "somewhere", "norm=batch"],
        "compare: --resume takes its settings from the folder.\n  got: norm=batch\n  fix: leave them out.\n",
    ),
}


@pytest.mark.parametrize(("words", "text"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("extra", [[], ["--json"]], ids=["plain", "json"])
def test_a_wrong_word_is_explained_and_nothing_is_written(
    words: list[str],
    text: str,
    extra: list[str],
    call: Callable[..., Called],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*words, *extra) == (2, "", text)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_is_a_usage_error_too(call: Callable[..., Called]) -> None:
    code, out, err = call("compare", "--job", "3")
    assert (code, out) == (2, "")
    assert "--jobs" in err
