"""The folder of claims: made, opened again, completed."""

import shutil
from pathlib import Path

import pytest

from normlab import errors
from normlab.lab import load
from normlab.lab.claims.inquiry import begin, judged, opened
from normlab.lab.claims.selection import select


def test_a_new_folder_has_the_selection_and_each_comparison_once(tmp_path: Path) -> None:
    chosen = select(["bias-is-redundant", "bias-has-no-gradient", "regularization"], ["epochs=1"], quick=True)
    folder = begin(chosen, tmp_path / "new")
    assert folder.name.endswith("-claims")
    selection, places = opened(folder)
    assert selection == chosen
    assert list(places) == ["bias", "dropout"]
    assert sorted(path for path in folder.iterdir() if path.is_dir()) == sorted(places.values())
    assert load(places["bias"]).recipe.base.epochs == 1
    found = judged(folder, selection, {name: load(place) for name, place in places.items()})
    assert [each.verdict for each in found.judgements] == ["undecided"] * 3
    assert found.judgements[0].reason == "6 of 6 runs have not finished"


def test_two_in_the_same_second_get_two_folders(tmp_path: Path) -> None:
    chosen = select(["bias-is-redundant"], [], quick=True)
    assert begin(chosen, tmp_path) != begin(chosen, tmp_path)


def test_a_comparison_that_was_not_made_before_a_kill_is_made(tmp_path: Path) -> None:
    folder = begin(select(["bias-is-redundant", "regularization"], ["epochs=1"], quick=True), tmp_path)
    _, before = opened(folder)
    shutil.rmtree(before["dropout"])
    (folder / "20261121-093000-dropout").mkdir()  # a kill just before its recipe was written
    _, after = opened(folder)
    assert after["bias"] == before["bias"]
    assert load(after["dropout"]).recipe.base.epochs == 1


def test_a_folder_that_is_not_one_of_claims(tmp_path: Path) -> None:
    with pytest.raises(errors.RecordError) as raised:
        opened(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}: claims.toml is missing.\n  fix: give a folder that `normlab claims` wrote."
    )


def test_a_place_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.RecordError) as raised:
        begin(select(["bias-is-redundant"], [], quick=True), tmp_path / "file")
    text = str(raised.value)
    assert "the folder cannot be made.\n  got: [Errno 20] Not a directory" in text
    assert text.endswith("\n  fix: choose another with --out.")
