import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from normlab.errors import UsageError
from normlab.lab import RECIPES, Recipe, planned_runs, recipe_named, with_words
from normlab.lab.config import Model, RunConfig, keys
from normlab.lab.recipe import variants

DEEP = RECIPES["deep-tanh"]
KNOWN = ", ".join([*(key for key in keys(RunConfig) if key != "schema_version"), "seeds"])


def names(*words: str) -> list[str]:
    return [variant.name for variant in variants(with_words(DEEP, words))]


def test_no_words_leave_the_recipe() -> None:
    assert with_words(DEEP, []) == DEEP
    assert names() == ["none", "batch", "layer"]


def test_one_value_is_a_setting_of_every_run() -> None:
    changed = with_words(DEEP, ["optimizer.lr=0.5", "seeds=2"])
    assert changed.axes == DEEP.axes
    assert [run.config.optimizer.lr for run in planned_runs(changed)] == [0.5] * 6


def test_a_list_makes_variants_in_the_order_written() -> None:
    assert names("norm=rms,none") == ["rms", "none"]
    assert names("norm=none,batch", "optimizer.lr=0.5, 0.1,") == [
        "none, optimizer.lr=0.5",
        "none, optimizer.lr=0.1",
        "batch, optimizer.lr=0.5",
        "batch, optimizer.lr=0.1",
    ]


def test_one_value_for_what_varies_leaves_one_variant() -> None:
    assert names("norm=batch") == ["batch"]
    assert names("norm=batch", "model.input_norm=true,false") == [
        "batch, model.input_norm=true",
        "batch, model.input_norm=false",
    ]


def test_values_have_the_type_of_their_key() -> None:
    changed = with_words(DEEP, ["optimizer.lr=1,2", "model.depth=1,2", "model.input_norm=yes,no"])
    assert changed.axes == {
        "norm": ("none", "batch", "layer"),
        "optimizer.lr": (1.0, 2.0),
        "model.depth": (1, 2),
        "model.input_norm": (True, False),
    }
    kinds = {key: type(values[0]) for key, values in changed.axes.items()}
    assert kinds == {"norm": str, "optimizer.lr": float, "model.depth": int, "model.input_norm": bool}


def test_the_last_word_for_a_key_counts() -> None:
    assert with_words(DEEP, ["batch=32", "batch=16"]).base.batch == 16
    assert names("norm=none,batch", "norm=layer") == ["layer"]


def test_seeds_go_round_first() -> None:
    runs = planned_runs(with_words(DEEP, ["seeds=2", "seed=10", "norm=none,batch"]))
    assert [(run.variant, run.config.seed) for run in runs] == [
        ("none", 10),
        ("batch", 10),
        ("none", 11),
        ("batch", 11),
    ]


def test_a_folder_is_named_by_variant_seed_and_digest() -> None:
    run = planned_runs(with_words(DEEP, ["norm=batch", "optimizer.lr=1e-05,0.1", "seeds=1"]))[0]
    assert run.folder.startswith("batch-optimizer.lr=1e-05-seed0-")
    assert run.folder.endswith(f"-{run.config.digest()[: len(run.folder.rpartition('-')[2])]}")


def test_every_run_has_a_folder_of_its_own() -> None:
    """Names longer than a folder name allows are cut: what is cut off must still tell them apart."""
    batches = ",".join(map(str, range(2, 152)))
    words = ["norm=none", "model.input_norm=true,false", "optimizer.weight_decay=0.001,0.002"]
    recipe = with_words(DEEP, [*words, "init.weight_std=0.05,0.06", f"batch={batches}", "seeds=2"])
    folders = [run.folder for run in planned_runs(recipe)]
    assert len(folders) == 2400
    assert len({folder.lower() for folder in folders}) == 2400


@given(
    st.lists(st.floats(1e-300, 1e300), min_size=2, max_size=6, unique=True),
    st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=6, unique=True),
)
@settings(max_examples=30, deadline=None)
def test_nasty_values_make_plain_folder_names(rates: list[float], biases: list[float]) -> None:
    try:
        words = [f"optimizer.lr={','.join(map(str, rates))}", f"init.bias={','.join(map(str, biases))}"]
        recipe = with_words(DEEP, ["norm=none", "seeds=2", *words])
    except UsageError as error:  # 0.0 and -0.0
        assert "must differ" in str(error)  # noqa: PT017
        return
    folders = [run.folder for run in planned_runs(recipe)]
    assert len(set(folders)) == len(rates) * len(biases) * 2
    assert all(set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789.=-") for folder in folders)


@given(
    axes=st.fixed_dictionaries(
        {},
        optional={
            "norm": st.permutations(["none", "batch"]),
            "optimizer.lr": st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=3, unique=True),
            "model.depth": st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
            "model.input_norm": st.permutations([True, False]),
        },
    ),
    question=st.text(st.characters(exclude_categories=["Cs"])),
)
@settings(max_examples=30, deadline=None)
def test_the_file_gives_the_same_recipe_back(axes: dict[str, list[Any]], question: str) -> None:
    values = DEEP.model_dump() | {"question": question, "axes": {key: tuple(found) for key, found in axes.items()}}
    recipe = Recipe.model_validate(values)
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert planned_runs(again) == planned_runs(recipe)
    kinds = [type(value) for value in itertools.chain(*again.axes.values())]
    assert kinds == [type(value) for value in itertools.chain(*recipe.axes.values())]


def test_a_recipe_is_frozen_and_refuses_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        DEEP.seeds = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Recipe.model_validate(DEEP.model_dump() | {"colour": "red"})


REFUSED = {
    "no value": (["norm"], "compare: `norm` is not of the form key=value.\n  fix: write norm=none,batch."),
    "empty value": (["norm="], "compare: `norm=` is not of the form key=value.\n  fix: write norm=none,batch."),
    "only commas": (["norm=,,"], "compare: `norm=,,` is not of the form key=value.\n  fix: write norm=none,batch."),
    "no key": (["=3"], f"compare: `` is not a key.\n  fix: choose one of: {KNOWN}."),
    "the schema": (["schema_version=1"], f"compare: `schema_version` is not a key.\n  fix: choose one of: {KNOWN}."),
    "several at once": (
        ["nrm=batch", "batch", "optimizer.l=3"],
        "compare: `nrm` is not a key.\n  fix: did you mean `norm`?\n"
        "compare: `batch` is not of the form key=value.\n  fix: write norm=none,batch.\n"
        "compare: `optimizer.l` is not a key.\n  fix: did you mean `optimizer.lr`?",
    ),
    "twice the same": (["norm=batch,batch"], "compare: the values of `norm` must differ and be at least one."),
    "the same otherwise written": (
        ["optimizer.lr=0.1,0.10"],
        "compare: the values of `optimizer.lr` must differ and be at least one.",
    ),
    "several seeds": (
        ["seed=1,2"],
        "compare: `seed` takes one value.\n  got: 1,2\n  fix: seeds=5 runs five, seed=10 is the first of them.",
    ),
    "several counts of seeds": (
        ["seeds=1,2"],
        "compare: `seeds` takes one value.\n  got: 1,2\n  fix: seeds=5 runs five, seed=10 is the first of them.",
    ),
    "several data sets": (
        ["data=digits,curve"],
        "compare: there is no data set `digits,curve`; did you mean `digits`?",
    ),
    "no seeds": (["seeds=0"], "compare: `seeds`: input should be greater than or equal to 1.\n  got: '0'"),
    "seeds in words": (
        ["seeds=five"],
        "compare: `seeds`: input should be a valid integer, unable to parse string as an integer.\n  got: 'five'",
    ),
    "one combination of many": (
        ["norm=none,group", "model.width=16,20"],
        "compare: norm_groups must divide the channels; 8 does not divide 20.",
    ),
}


@pytest.mark.parametrize(("words", "text"), REFUSED.values(), ids=REFUSED)
def test_words_that_are_refused_say_why(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        with_words(DEEP, words)
    assert str(raised.value) == text


def test_a_recipe_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        recipe_named("deep-tan")
    assert str(raised.value) == "compare: there is no recipe `deep-tan`.\n  fix: did you mean `deep-tanh`?"


def test_deep_tanh_is_that_of_the_issue() -> None:
    assert recipe_named("deep-tanh") is DEEP
    assert DEEP.axes == {"norm": ("none", "batch", "layer")}
    assert DEEP.seeds == 5
    assert DEEP.base.model_dump(exclude_unset=True) == {
        "data": "digits",
        "model": {"kind": "mlp", "depth": 8, "width": 64, "activation": "tanh"},
        "init": {"weight_std": 0.05, "bias": -0.2},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "batch": 64,
        "epochs": 15,
        "target": 0.9,
    }


def test_bad_init_is_that_of_seed_document_s4() -> None:
    recipe = RECIPES["bad-init"]
    assert recipe.axes == {"norm": ("none", "batch")}
    assert recipe.seeds == 5
    base = recipe.base
    assert base.data == "curve"
    assert base.model == Model(
        kind="mlp", depth=8, width=10, activation="tanh", input_norm=True, bias=True, dropout=0.0
    )
    assert (base.init.weight_std, base.init.bias) == (0.1, -0.2)
    assert base.norm_momentum == 0.5
    assert (base.optimizer.name, base.optimizer.lr, base.optimizer.weight_decay) == ("adam", 0.03, 0.0)
    assert (base.batch, base.epochs) == (64, 12)
