"""`normlab claims` on one claim with a tiny recipe; judging and drawing are tested in tests/lab/claims."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.conftest import Called

from normlab.cli.claims import show_claims
from normlab.lab import load
from normlab.lab.claims import CLAIMS
from normlab.lab.claims.inquiry import Inquiry, judged, opened
from normlab.lab.claims.judge import Judgement
from normlab.lab.claims.selection import Selection
from normlab.lab.network import network
from normlab.lab.statistics import Estimate

TINY = ("bias-is-redundant", "epochs=1", "seeds=2", "norm=batch", "model.depth=1", "model.width=16", "probe=16")
FILES = ["claims.html", "claims.json", "claims.md"]


@pytest.fixture
def call(program: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """Calls the program in this process; the reports of the comparisons are not drawn, they have tests of their own."""

    def write(results: Any, path: Path) -> Path:
        path.write_text("drawn")
        return path

    monkeypatch.setattr("normlab.lab.report.write_report", write)

    return program


def interrupted(config: Any, data: Any) -> Any:
    if not config.model.bias and config.seed == 1:
        raise KeyboardInterrupt
    return network(config, data)


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def stamps(folder: Path) -> dict[str, int]:
    """When each record of the runs was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("*/*/*")}


def test_the_main_job_and_judging_again(call: Callable[..., Called], tmp_path: Path) -> None:
    code, out, err = call("claims", *TINY, "--jobs", "1", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    (folder,) = tmp_path.iterdir()
    (comparison,) = (path for path in folder.iterdir() if path.is_dir())
    found = json.loads((folder / "claims.json").read_text())
    (claim,) = found["claims"]
    finals = {(run.config.model.bias, run.config.seed): run.value for run in load(comparison).runs}
    assert claim["values"] == pytest.approx(
        [100 * ((finals[True, seed] or 0) - (finals[False, seed] or 0)) for seed in (0, 1)]
    )
    assert found["command"] == f"normlab claims {' '.join(TINY)} --quick"
    lines = out.splitlines()
    assert lines[0].endswith(" · 1 claim, quick")
    assert lines[1] == "1/1  bias: 4 of 4 runs to make"
    assert "4/4  batch, model.bias=false, seed 1: done" in out
    assert f" bias-is-redundant  {claim['verdict']}" in out
    assert "supported if within ±1 point" in out
    assert lines[-3:] == [f"wrote   {folder / name}" for name in ("claims.json", "claims.md", "claims.html")]
    assert (comparison / "report.html").read_text() == "drawn"

    before, written = files(folder), stamps(folder)
    for name in FILES:
        (folder / name).unlink()
    code, out, _ = call("claims", "--resume", str(folder))
    assert code == 0
    assert "1/1  bias: all 4 runs are there" in out
    assert files(folder) == before
    assert stamps(folder) == written
    assert list(tmp_path.iterdir()) == [folder]


def test_json_is_one_object_on_stdout(call: Callable[..., Called], tmp_path: Path) -> None:
    code, out, err = call("claims", *TINY, "seeds=1", "--jobs", "1", "--out", str(tmp_path), "--json")
    (folder,) = tmp_path.iterdir()
    assert code == 0
    found = json.loads(out)
    assert found == json.loads((folder / "claims.json").read_text())
    assert found["claims"][0]["reason"] == "one seed gives no interval"
    assert "2/2  batch, model.bias=false, seed 0: done" in err


def test_ctrl_c_says_how_to_go_on_and_resume_makes_only_what_is_left(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("normlab.lab.train.network", interrupted)
        code, _, err = call("claims", *TINY, "--jobs", "1", "--out", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert code == 130
    assert err == f"Stopped. Every finished run is kept.\nGo on with: normlab claims --resume {folder}\n"
    assert not (folder / "claims.json").exists()
    _, places = opened(folder)
    kept = {run.folder.name: stamps(run.folder) for run in load(places["bias"]).runs if run.status.state == "done"}
    assert len(kept) == 3

    code, out, _ = call("claims", "--resume", str(folder), "--jobs", "1")
    assert code == 0
    assert "1/1  bias: 1 of 4 runs to make" in out
    assert {name: stamps(places["bias"] / name) for name in kept} == kept
    whole = tmp_path / "whole"
    call("claims", *TINY, "--jobs", "1", "--out", str(whole))
    (other,) = whole.iterdir()
    one, two = (json.loads((each / "claims.json").read_text())["claims"][0] for each in (folder, other))
    assert one | {"comparison": ""} == two | {"comparison": ""}


def test_a_failed_run_is_named_and_the_exit_code_is_one(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(config: Any, data: Any) -> Any:
        if not config.model.bias and config.seed == 1:
            raise RuntimeError("no such [layer]")
        return network(config, data)

    monkeypatch.setattr("normlab.lab.train.network", build)
    code, out, err = call("claims", *TINY, "--jobs", "1", "--out", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    _, places = opened(folder)
    name = f"{places['bias'].name}/{load(places['bias']).runs[-1].folder.name}"
    assert (code, err) == (1, "")
    assert f"failed  {name}: RuntimeError: no such [layer]\ngo on   normlab claims --resume {folder}\n" in out
    assert "1 of 4 runs have not finished" in out
    assert json.loads((folder / "claims.json").read_text())["claims"][0]["verdict"] == "undecided"


def test_a_wrong_name(call: Callable[..., Called], tmp_path: Path) -> None:
    assert call("claims", "bias-is-redundent", "--out", str(tmp_path / "new")) == (
        2,
        "",
        "claims: there is no claim `bias-is-redundent`.\n  fix: did you mean `bias-is-redundant`?\n",
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [("bias-is-redundant",), ("epochs=1",), ("--quick",), ("--full",)])
def test_resume_takes_no_settings(words: tuple[str, ...], call: Callable[..., Called], tmp_path: Path) -> None:
    assert call("claims", *words, "--resume", str(tmp_path)) == (
        2,
        "",
        f"claims: --resume takes its settings from the folder.\n  got: {words[0]}\n  fix: leave them out.\n",
    )


def test_resume_of_what_is_not_a_folder_of_claims(call: Callable[..., Called], tmp_path: Path) -> None:
    assert call("claims", "--resume", str(tmp_path)) == (
        1,
        "",
        f"{tmp_path}: claims.toml is missing.\n  fix: give a folder that `normlab claims` wrote.\n",
    )


def test_the_whole_table_fits_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = Selection(claims=tuple(CLAIMS), quick=True, begun="")
    judgements = tuple(
        Judgement(claim, "not supported", Estimate(-12.3, -34.5, -10.1, 3), (None,) * 3, (0, 1, 2), "")
        for claim in CLAIMS.values()
    )
    show_claims(Console(width=80), Inquiry(Path(), chosen, {}, judgements))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for claim in CLAIMS.values():
        assert sum(line.startswith(f" {claim.name} ") for line in lines) == 1
        assert any(claim.rule.short(claim.unit) in line for line in lines)
    assert sum("not supported  −12.3 points [−34.5, −10.1]" in line for line in lines) == 9
    assert f"0 supported, {len(CLAIMS)} not supported, 0 undecided." in lines


def test_judging_is_open_to_python(call: Callable[..., Called], tmp_path: Path) -> None:
    call("claims", *TINY, "--jobs", "1", "--out", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    selection, places = opened(folder)
    found = judged(folder, selection, {name: load(place) for name, place in places.items()})
    assert found.judgements[0].claim is CLAIMS["bias-is-redundant"]
