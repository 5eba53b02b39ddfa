import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Called

from normlab.errors import RecordError
from normlab.lab import Recipe, Results, create
from normlab.lab.contrast import contrast
from normlab.lab.listing import listed


@pytest.fixture
def call(program: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    monkeypatch.setenv("COLUMNS", "120")

    return program


def test_comparisons_are_listed_with_how_their_runs_stand(copied: Results, small: Callable[..., Recipe]) -> None:
    out = copied.folder.parent
    begun = create(small("seeds=3"), out)
    (out / "something else").mkdir()
    status = copied.runs[0].folder / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "diverged"}))
    found = {each.folder.name: each for each in listed(out)}
    assert list(found) == sorted([begun.name, copied.folder.name])
    assert found[copied.folder.name].text == "3 done, 1 diverged"
    assert (found[begun.name].variants, found[begun.name].seeds, found[begun.name].text) == (2, 3, "6 planned")


def test_a_damaged_comparison_does_not_hide_the_others(copied: Results, small: Callable[..., Recipe]) -> None:
    out = copied.folder.parent
    other = create(small(), out)
    (copied.folder / "recipe.toml").write_text("no recipe")
    found = {each.folder.name: each for each in listed(out)}
    assert "the file is damaged" in found[copied.folder.name].text
    assert found[other.name].text == "4 planned"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as raised:
        listed(tmp_path / "runs")
    assert str(raised.value) == (
        f"{tmp_path / 'runs'}: there is no such folder.\n  fix: `normlab compare` makes `runs`."
    )


def test_ls_prints_comparisons_and_runs(finished: Results, call: Callable[..., Called], tmp_path: Path) -> None:
    code, out, err = call("ls", str(finished.folder.parent))
    assert (code, err) == (0, "")
    assert finished.folder.name in out
    assert "4 done" in out
    code, out, _ = call("ls", str(finished.folder))
    assert all(run.folder.name in out for run in finished.runs)
    assert out.count("2 of 2") == 4
    machine = json.loads(call("ls", str(finished.folder), "--json")[1])
    assert [each["state"] for each in machine] == ["done"] * 4
    assert json.loads(call("ls", str(finished.folder.parent), "--json")[1])[0]["states"] == {"done": 4}
    assert "No comparison in" in call("ls", str(tmp_path))[1]


def test_two_runs_that_differ_in_one_setting(finished: Results, call: Callable[..., Called]) -> None:
    none, batch = finished.of("none")[0], finished.of("batch")[0]
    found = contrast(none.folder, batch.folder)
    assert found.settings == {"norm": ("none", "batch")}
    assert found.environment == {}
    assert found.values == (none.value, batch.value)
    assert not found.identical
    code, out, err = call("diff", str(none.folder), str(batch.folder))
    assert (code, err) == (1, "")
    assert "setting   norm   none    batch" in out
    assert (
        f"test accuracy: {finished.metric.text(none.value or 0)} and {finished.metric.text(batch.value or 0)}." in out
    )
    assert "Not identical: the first difference is in epoch 0" in out
    machine = json.loads(call("diff", str(none.folder), str(batch.folder), "--json")[1])
    assert (machine["settings"], machine["identical"]) == ({"norm": ["none", "batch"]}, False)


def test_a_run_is_itself(finished: Results, call: Callable[..., Called]) -> None:
    folder = str(finished.runs[0].folder)
    code, out, _ = call("diff", folder, folder)
    assert code == 0
    assert "Settings and environment are the same." in out
    assert "Bit-identical: every number of 2 epochs, every histogram and the weights." in out


def test_only_runs_that_have_ended_are_held_against_each_other(finished: Results) -> None:
    with pytest.raises(RecordError) as raised:
        contrast(finished.folder, finished.runs[0].folder)
    assert str(raised.value) == (
        f"{finished.folder}: two runs that have ended can be compared.\n  fix: give the folder of one run each."
    )
