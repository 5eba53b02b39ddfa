import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from normlab.errors import UsageError
from normlab.lab.config import Init, Model, Optimizer, RunConfig, keys, setting, with_settings

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
configs = st.builds(
    RunConfig,
    data_seed=st.integers(0, 2**31),
    model=st.builds(
        Model,
        depth=st.integers(1, 200),
        width=st.integers(1, 8192),
        activation=st.sampled_from(["tanh", "relu", "sigmoid"]),
        input_norm=st.booleans(),
    ),
    norm=st.sampled_from(["none", "batch"]),
    norm_eps=positive,
    init=st.builds(Init, weight_std=st.floats(0, 1e3), bias=finite),
    optimizer=st.builds(Optimizer, lr=positive, momentum=st.floats(0, 0.99), weight_decay=st.floats(0, 1)),
    batch=st.integers(2, 10**6),
    seed=st.integers(0, 2**60),
    target=finite,
)

# for each key another value than the default, valid on its own
OTHER: dict[str, Any] = {
    "engine": "reference",
    "data": "curve",
    "data_seed": 1,
    "train_samples": 100,
    "task": "regression",
    "model.kind": "conv",
    "model.factory": "/a/my.py:make",
    "model.depth": 3,
    "model.width": 32,
    "model.growth": 4,
    "model.activation": "relu",
    "model.input_norm": True,
    "model.bias": False,
    "model.dropout": 0.5,
    "norm": "rms",
    "norm_eps": 1e-3,
    "norm_momentum": 0.2,
    "norm_groups": 4,
    "init.scheme": "he",
    "init.weight_std": 0.5,
    "init.bias": 1.0,
    "optimizer.name": "adam",
    "optimizer.lr": 0.2,
    "optimizer.lr_decay": 0.9,
    "optimizer.momentum": 0.5,
    "optimizer.weight_decay": 0.1,
    "batch": 32,
    "epochs": 3,
    "seed": 1,
    "loss": "/a/my.py:loss",
    "metric": "/a/my.py:metric",
    "goal": "min",
    "target": 0.5,
    "dtype": "float64",
    "threads": 2,
    "processes": 2,
    "probe": 32,
    "eval_batch": 1,
}

# and what has to go with it
NEEDS = {"model.factory": {"model.kind": "own", "init.scheme": "own"}}


@given(configs)
@settings(max_examples=50, deadline=None)
def test_toml_gives_the_same_config_back(config: RunConfig) -> None:
    again = RunConfig.from_toml(config.to_toml())
    assert again == config
    assert again.digest() == config.digest()


def test_the_file_has_the_names_of_the_keys() -> None:
    found = tomllib.loads(RunConfig().to_toml())
    assert found["optimizer"] == {"name": "sgd", "lr": 0.1, "lr_decay": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    assert found["schema_version"] == 1


def test_every_key_moves_the_digest_and_no_two_alike() -> None:
    assert list(OTHER) == [key for key in keys(RunConfig) if key != "schema_version"]
    changed = [with_settings(RunConfig(), {key: value, **NEEDS.get(key, {})}) for key, value in OTHER.items()]
    assert all(setting(config, key) == OTHER[key] for key, config in zip(OTHER, changed, strict=True))
    assert len({config.digest() for config in [RunConfig(), *changed]}) == len(OTHER) + 1


def test_the_digest_is_the_same_in_every_process() -> None:
    """Folders of earlier comparisons are found by it: a change here needs a new schema version."""
    assert RunConfig().digest() == "44136fa3"


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        RunConfig().model.depth = 3  # type: ignore[misc]


def test_an_unknown_key_in_a_file_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RunConfig.from_toml(RunConfig().to_toml() + "dropout = 0.5\n")


def test_changing_some_keys_leaves_the_others() -> None:
    before = RunConfig(model=Model(depth=3), seed=7)
    after = with_settings(before, {"model.width": "16", "model.input_norm": "true"})
    assert after == RunConfig(model=Model(depth=3, width=16, input_norm=True), seed=7)
    assert before == RunConfig(model=Model(depth=3), seed=7)


REFUSED = {
    "every unknown key": (
        {"optimiser.lr": 1, "norms": "batch"},
        "compare: `optimiser.lr` is not a key.\n  fix: did you mean `optimizer.lr`?\n"
        "compare: `norms` is not a key.\n  fix: did you mean `norm`?",
    ),
    "a part of the config": ({"model": 3}, "compare: `model` is not a key.\n  fix: did you mean `model.kind`?"),
    "every bad value": (
        {"model.depth": "0", "norm": "bacth", "optimizer.lr": "nan"},
        "compare: `model.depth`: input should be greater than or equal to 1.\n  got: '0'\n"
        "compare: `norm`: input should be 'none', 'batch', 'layer', 'group', 'instance' or 'rms'.\n"
        "  got: 'bacth'\n  fix: did you mean `batch`?\n"
        "compare: `optimizer.lr`: input should be a finite number.\n  got: 'nan'",
    ),
    "adam with momentum": (
        {"optimizer.name": "adam", "optimizer.momentum": 0.9},
        "compare: optimizer.momentum belongs to sgd; with adam set optimizer.momentum=0.",
    ),
    "a picture net on numbers": (
        {"data": "curve", "model.kind": "conv"},
        "compare: model.kind=conv needs images; `curve` has no positions.",
    ),
    "one number normalized": (
        {"data": "curve", "norm": "layer", "model.input_norm": True},
        "compare: norm=layer of the one input of `curve` leaves at most its sign, so nothing could be learned; "
        "use model.input_norm=false.",
    ),
    "groups that do not divide the width": (
        {"norm": "group", "model.width": 10},
        "compare: norm_groups must divide the channels; 8 does not divide 10.",
    ),
    "groups that do not divide the input": (
        {"norm": "group", "norm_groups": 5, "model.width": 10, "model.input_norm": True},
        "compare: norm_groups must divide the channels; 5 does not divide 64.",
    ),
    "groups that do not divide the one channel of an image": (
        {"norm": "group", "model.kind": "conv", "model.input_norm": True},
        "compare: norm_groups must divide the channels; 8 does not divide 1.",
    ),
    "instance norm of units": (
        {"norm": "instance"},
        "compare: norm=instance takes its moments over positions, and a unit of an mlp has only one: "
        "its output would be the bias whatever the input; use model.kind=conv.",
    ),
}


@pytest.mark.parametrize(("words", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_why(words: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        with_settings(RunConfig(), words)
    assert str(raised.value) == text


def test_groups_of_another_norm_do_not_matter() -> None:
    assert with_settings(RunConfig(), {"norm": "batch", "model.width": 10}).norm_groups == 8


@pytest.mark.parametrize("words", [{"norm_groups": 64}, {"norm_groups": 8, "model.width": 8}], ids=str)
def test_a_group_of_one_unit_is_refused_like_an_instance_norm(words: dict[str, Any]) -> None:
    """A group of one unit at (N, C) normalizes one number: its output is the bias whatever the input."""
    with pytest.raises(UsageError):
        with_settings(RunConfig(), {"norm": "group", **words})
