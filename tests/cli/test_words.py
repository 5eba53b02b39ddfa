"""From what is typed to a recipe, and a comparison of a network of the user's from the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.own_code import write as write

from normlab.cli import main
from normlab.cli.words import Own, recipe_of
from normlab.errors import UsageError
from normlab.lab import RECIPES

CODE = """
import numpy as np
import torch
from torch import nn

def make_model():
    print("a word of theirs")
    return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))

def load():
    x = np.random.rand(24, 2)
    return x[:16], (x[:16, 0] > 0.5), x[16:], (x[16:, 0] > 0.5)

def ones(output, y):
    return float(output.argmax(1).double().mean())
"""


def refusal(words: list[str], own: Own = Own()) -> str:  # noqa: B008 - it is frozen
    with pytest.raises(UsageError) as caught:
        recipe_of(words, False, own)
    return str(caught.value)


def test_without_words_it_is_the_default_recipe() -> None:
    assert recipe_of([], False, Own()) == RECIPES["deep-tanh"]
    assert Own(model="a.py:f", goal="min").options() == ["--model a.py:f", "--goal min"]


def test_a_network_alone_is_a_recipe_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Own("my.py:make_model", "my.py:load", "my.py:loss", "my.py:metric", "min")
    recipe = recipe_of(["seeds=3", "norm=none,rms"], False, own)
    base = recipe.base
    assert (recipe.name, recipe.question) == ("own", "Which normalization suits my.py:make_model?")
    assert (recipe.seeds, recipe.axes) == (3, {"norm": ("none", "rms")})
    assert (base.model.kind, base.model.factory) == ("own", f"{tmp_path}/my.py:make_model")
    assert (base.data, base.loss, base.metric) == tuple(
        f"{tmp_path}/my.py:{name}" for name in ("load", "loss", "metric")
    )
    assert base.goal == "min"
    assert recipe_of([], True, own).seeds == 2


def test_a_recipe_with_a_network_keeps_what_it_varies() -> None:
    recipe = recipe_of(["learning-rate", "epochs=2"], True, Own(model="nets:make", data="nets:load"))
    assert recipe.name == "learning-rate"
    assert recipe.question == "How large may the learning rate be? (in nets:make)"
    assert recipe.axes["optimizer.lr"] == (0.001, 0.01, 0.1, 1.0, 10.0)
    assert (recipe.base.epochs, recipe.base.optimizer.name, recipe.base.train_samples) == (2, "sgd", 0)
    assert recipe_of(["batch-size"], False, Own(model="nets:make")).base.norm_groups == 8


def test_the_samples_of_a_recipe_are_those_of_its_data() -> None:
    assert recipe_of(["learning-rate"], False, Own(data="nets:load")).base.train_samples == 0
    assert recipe_of(["learning-rate", "train_samples=5"], False, Own(data="nets:load")).base.train_samples == 5
    assert recipe_of(["learning-rate"], False, Own(data="blobs")).base.train_samples == 1000


@pytest.mark.parametrize(
    ("words", "own", "text"),
    [
        (
            ["epochs=2", "bad-init"], Own(),
            "compare: one recipe comes first, then settings as key=value.\n  got: epochs=2 bad-init\n"
            "  fix: normlab compare bad-init epochs=2",
        ),
        (["bad-int"], Own(), "compare: there is no recipe `bad-int`.\n  fix: did you mean `bad-init`?"),
        (
            ["data=blobs"], Own(data="curve"),
            "compare: `data` is given twice.\n  fix: write data=VALUE,VALUE.",
        ),
        (
            [], Own(model="nets:make", goal="min"),
            "compare: goal belongs to a metric of yours.\n  fix: add --metric FILE.py:FUNCTION.",
        ),
        (
            [], Own(metric="nets:f1", goal="less"),
            "compare: `goal`: input should be 'max' or 'min'.\n  got: 'less'\n  fix: choose one of: max, min.",
        ),
        (
            ["init.scheme=he"], Own(model="nets:make"),
            "compare: your own network keeps the weights it comes with: use init.scheme=own.",
        ),
    ],
)  # fmt: skip
def test_what_does_not_make_a_recipe(words: list[str], own: Own, text: str) -> None:
    assert refusal(words, own) == text


Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """The program, called in this process in a folder with the user's file in it, without the drawing."""
    monkeypatch.chdir(write(CODE).parent)
    monkeypatch.setattr("normlab.lab.report.write_report", lambda results, path: path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["normlab", "compare", "--jobs", "1", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    return call


def test_a_network_and_data_of_theirs_are_compared(typed: Typed) -> None:
    words = ("norm=batch,group,layer", "epochs=1", "seeds=1")
    code, out, err = typed("--model", "my.py:make_model", "--data", "my.py:load", *words)
    assert code == 0, err
    assert "Which normalization suits my.py:make_model?" in out
    for line in ("0 of 1 norm layer swapped to batch norm, 1 already so", "1 of 1 norm layer swapped to group norm"):
        assert line in out
    assert "a word of theirs" not in out
    assert "a word of theirs" in err


def test_one_object_is_printed_and_nothing_else(typed: Typed) -> None:
    own = ("--model", "my:make_model", "--data", "my:load", "--metric", "my.py:ones", "--goal", "min")
    code, out, err = typed(*own, "--json", "norm=batch,layer", "epochs=1", "seeds=1")
    assert code == 0, err
    said = json.loads(out)
    assert said["metric"] == {"name": "ones", "goal": "min"}
    assert [variant["name"] for variant in said["variants"]] == ["batch", "layer"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model", "my.py"), "compare: a function is written FILE.py:FUNCTION or MODULE:FUNCTION.\n  got: my.py\n"),
        (
            ("weight-scale", "--model", "my.py:make_model", "--data", "my.py:load"),
            "compare: init.weight_std has no meaning for a network of yours, which comes with its own weights and "
            "layers.\n  fix: set or vary norm, batch, optimizer.lr or another setting of the training.\n",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_without_a_trace(
    typed: Typed, tmp_path: Path, words: tuple[str, ...], text: str
) -> None:
    assert typed(*words) == (2, "", text)
    assert not (tmp_path / "runs").exists()
