"""Which claims, with which recipes."""

import pytest

from normlab import errors
from normlab.lab.claims import CLAIMS
from normlab.lab.claims.selection import Selection, recipes, select, selected


def test_without_names_all_claims_and_each_recipe_once() -> None:
    chosen = select([], [], quick=False)
    assert chosen.claims == tuple(CLAIMS)
    assert list(recipes(chosen)) == [
        "deep-tanh",
        "learning-rate",
        "weight-scale",
        "dropout",
        "batch-size",
        "population",
        "bias",
        "volumes",
    ]
    assert {recipe.seeds for recipe in recipes(chosen).values()} == {5}


def test_quick_is_that_of_the_recipe_with_three_seeds_and_words_come_last() -> None:
    (quick,) = recipes(select(["bias-is-redundant"], [], quick=True)).values()
    assert (quick.seeds, quick.base.epochs) == (3, 4)
    (changed,) = recipes(select(["bias-is-redundant"], ["epochs=2", "seeds=4"], quick=True)).values()
    assert (changed.seeds, changed.base.epochs) == (4, 2)


def test_a_selection_is_written_and_read_and_says_its_command() -> None:
    chosen = select(["bias-is-redundant", "regularization", "bias-is-redundant"], ["epochs=2"], quick=True)
    assert Selection.from_toml(chosen.to_toml()) == chosen
    assert chosen.command() == "normlab claims bias-is-redundant regularization epochs=2 --quick"
    assert [claim.recipe for claim in selected(chosen)] == ["bias", "dropout"]


def test_unknown_claims_are_all_named() -> None:
    with pytest.raises(errors.UsageError) as raised:
        select(["regularisation", "bias-is-redundant", "trainingflag"], [], quick=True)
    assert str(raised.value) == (
        "claims: there is no claim `regularisation`.\n  fix: did you mean `regularization`?\n"
        "claims: there is no claim `trainingflag`.\n  fix: did you mean `training-flag`?"
    )


def test_a_setting_that_does_not_fit_names_the_recipe() -> None:
    with pytest.raises(errors.UsageError) as raised:
        select(["bias-is-redundant"], ["epoch=3"], quick=True)
    assert str(raised.value) == (
        "compare: `epoch` is not a key.\n  fix: did you mean `epochs`?\n  in: the recipe bias, which these claims need"
    )


def test_a_setting_that_takes_away_what_a_claim_needs_is_refused_before_anything_runs() -> None:
    with pytest.raises(errors.UsageError) as raised:
        select(["bias-is-redundant", "regularization"], ["norm=none,layer"], quick=True)
    assert str(raised.value) == (
        "claims: bias-is-redundant cannot be judged: it needs runs with norm=batch.\n"
        "  got: norm=none,layer\n  fix: leave that setting out.\n"
        "claims: regularization cannot be judged: it needs runs with norm=batch.\n"
        "  got: norm=none,layer\n  fix: leave that setting out."
    )


def test_a_claim_of_another_version() -> None:
    with pytest.raises(errors.RecordError) as raised:
        selected(Selection(claims=("gone",), quick=True, begun="2026-11-21 09:30"))
    assert str(raised.value) == (
        "claims.toml: there is no claim `gone`.\n  fix: use the version of normlab that made this folder."
    )
