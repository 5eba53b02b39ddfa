"""The tools as they are called from the command line: weights in, weights out, and what is said."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.conftest import Called
from tests.lab.own_code import write as write
from torch import nn

from normlab.tools import fold_, freeze_, recalibrate_, swap_  # as the program says that they are called

Call = Callable[..., Called]

CODE = """
    import torch
    from torch import nn

    def make():
        print("a word of theirs")
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 4, 2), nn.BatchNorm2d(4),
            nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 2),
        )

    MODEL = make()

    def nothing():
        pass

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

        def forward(self, *, values, mask):
            return self.norm(values * mask)

    def xs():
        generator = torch.Generator().manual_seed(0)
        return [5 + 2 * torch.randn(n, 3, 6, 6, generator=generator) for n in (6, 4, 3)]

    def pairs():
        return [(x, torch.zeros(len(x))) for x in xs()]

    def once():
        yield from pairs()

    def loader():
        return torch.utils.data.DataLoader(torch.cat(xs()), batch_size=4, shuffle=True)

    def named():
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
        return [{"values": x, "mask": torch.ones(5, 1)}]

    def arrays():
        return xs()[0], xs()[1]

    def empty():
        return []

    def wrong():
        return [torch.zeros(2, 3)]

    def fails():
        yield xs()[0]
        raise KeyError("lost")
"""


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 4, 2), nn.BatchNorm2d(4),
        nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 2),
    )  # fmt: skip


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [5 + 2 * torch.randn(n, 3, 6, 6, generator=generator) for n in (6, 4, 3)]


def trained() -> nn.Module:
    """As a user has it: statistics and weights of norms that are not those of a new layer."""
    model = network(1)
    with torch.no_grad():
        for norm in (model[1], model[5], model[7]):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    for x in batches():
        model(x)
    return model


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.fixture
def call(program: Call, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The program in a folder with the user's file and the weights of a trained network in it."""
    monkeypatch.chdir(write(CODE).parent)
    save_file(trained().state_dict(), "in.safetensors")
    return program


TOOLS: dict[str, tuple[list[str], Callable[[nn.Module], Any], str]] = {
    "recalibrate": (
        ["--data", "my.py:once", "--method", "average"],
        lambda model: recalibrate_(model, batches(), "average"),
        "",
    ),
    "freeze": (["--where", "1"], lambda model: freeze_(model, "1"), ""),
    "fold": (
        ["--data", "my.py:pairs", "--tolerance", "0.001"],
        lambda model: fold_(model, batches()[0], tolerance=1e-3),
        "after `normlab.tools.fold_(model, example, where=['1', '5'], tolerance=float('inf'))`",
    ),
    "swap": (
        ["--to", "group", "--groups", "2", "--data", "my.py:loader"],
        lambda model: swap_(model, "group", groups=2, example=batches()[0]),
        "after `normlab.tools.swap_(model, 'group', example=example, eps=1e-05, momentum=0.1, groups=2)`",
    ),
}


@pytest.mark.parametrize(
    ("command", "words", "tool", "load"), [(name, *each) for name, each in TOOLS.items()], ids=TOOLS
)
def test_what_is_written_loads_into_a_network_that_the_tool_has_changed(
    call: Call, command: str, words: list[str], tool: Callable[[nn.Module], Any], load: str
) -> None:
    code, out, err = call(command, "my.py:make", "--weights", "in.safetensors", *words, "--out", "out.safetensors")
    assert code == 0, err
    model = trained()
    report = tool(model)
    assert out.splitlines()[0] == report.title()
    assert "a word of theirs" not in out
    assert ("wrote  out.safetensors" in out, f"load   them {load}" in out) == (True, bool(load))
    assert_same(load_file("out.safetensors"), model.state_dict())
    fresh = network(2)  # as the user makes it in their program
    tool(fresh)
    fresh.load_state_dict(load_file("out.safetensors"))
    x = batches()[2]
    assert torch.equal(fresh.eval()(x), model.eval()(x))
    with safe_open("out.safetensors", framework="pt") as file:
        assert file.metadata()["normlab.load"] == load
    assert_same(load_file("in.safetensors"), trained().state_dict())


@pytest.mark.parametrize(("command", "words", "tool"), [(name, *each[:2]) for name, each in TOOLS.items()], ids=TOOLS)
def test_one_object_is_printed_and_nothing_else(
    call: Call, command: str, words: list[str], tool: Callable[[nn.Module], Any]
) -> None:
    code, out, err = call(command, "my.py:make", "--weights", "in.safetensors", *words, "--json")
    assert code == 0, err
    said, report = json.loads(out), tool(trained())
    assert said.keys() == {"command", "done", "touched", "skipped", "error", "notes", "out", "then"}
    assert (said["command"], said["done"], said["out"]) == (command, report.done, None)
    assert [each["name"] for each in said["touched"]] == [each.name for each in report.touched]
    assert [each["reason"] for each in said["skipped"]] == [each.reason for each in report.skipped]
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("data", ["xs", "pairs", "once", "loader"])
def test_batches_come_in_any_form(call: Call, data: str) -> None:
    assert call("recalibrate", "my.py:make", "--data", f"my.py:{data}", "--out", "out.safetensors")[0] == 0
    x = torch.cat(batches()).double()
    torch.manual_seed(0)  # the network that is made without weights is the same each time
    conv = network(0)[0].double()
    found = load_file("out.safetensors")["1.running_mean"]
    assert torch.allclose(found.double(), conv(x).mean((0, 2, 3)), rtol=1e-5)


def test_batches_by_name_and_a_class_in_a_module(call: Call) -> None:
    code, out, err = call("recalibrate", "my:Named", "--data", "my:named", "--out", "out.safetensors")
    assert code == 0, err
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(load_file("out.safetensors")["norm.running_var"], x.var(0), rtol=1e-5)
    code, out, err = call("swap", "my:Named", "--data", "my:named", "--to", "layer")
    assert (code, out.splitlines()[0]) == (0, "1 of 1 norm layer swapped to layer norm"), err
    assert "wrote  nothing: --out FILE.safetensors keeps the result" in out
    assert call("freeze", "my.py:MODEL")[1].splitlines()[0] == "2 of 3 norm layers frozen"


def test_a_checkpoint_of_another_kind_is_read(call: Call) -> None:
    state = {f"module.{name}": each for name, each in trained().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, "in.pt")
    code, out, err = call("freeze", "my.py:make", "--weights", "in.pt", "--out", "out.safetensors")
    assert code == 0, err
    assert "note   read the weights in `state_dict` of the checkpoint\n" in out
    assert "note   took `module.` off every name\n" in out
    assert out.endswith(
        "wrote  out.safetensors\n"
        "then   freezing changes no weight: call `normlab.tools.freeze_(model)` when they are loaded\n"
    )
    assert_same(load_file("out.safetensors"), trained().state_dict())


def test_a_second_tool_keeps_what_the_first_said(call: Call, write: Callable[..., Path]) -> None:
    write("""
        import my
        from normlab.tools import swap_

        def make():
            model = my.make()
            swap_(model, "none", example=my.xs()[0])
            return model
        """, "swapped.py")  # fmt: skip
    call("swap", "my.py:make", "--to", "none", "--weights", "in.safetensors", "--out", "one.safetensors")
    code, out, err = call("freeze", "my.py:make", "--weights", "one.safetensors", "--out", "two.safetensors")
    first = "after `normlab.tools.swap_(model, 'none', eps=1e-05, momentum=0.1, groups=8)`"
    assert (code, out) == (1, "")
    assert err.endswith(f"  fix: they are to be loaded {first}.\n")
    words = ("--weights", "one.safetensors", "--out", "two.safetensors", "--data", "my.py:xs")
    code, out, err = call("fold", "swapped.py:make", *words)
    assert code == 0, err
    assert f"note   the file is to be loaded {first}: swapped.py:make must do so\n" in out
    with safe_open("two.safetensors", framework="pt") as file:
        assert file.metadata()["normlab.load"] == first


def test_a_file_is_not_replaced_unless_asked(call: Call) -> None:
    Path("out.safetensors").write_bytes(b"somebody's work")
    words = ("freeze", "my.py:make", "--weights", "in.safetensors", "--out", "out.safetensors")
    assert call(*words) == (
        2, "", "freeze: out.safetensors exists.\n  fix: choose another name, or replace it with --force.\n",
    )  # fmt: skip
    assert Path("out.safetensors").read_bytes() == b"somebody's work"
    assert call(*words, "--force")[0] == 0
    assert_same(load_file("out.safetensors"), trained().state_dict())
    assert call("freeze", "my.py:make", "--weights", "in.safetensors", "--out", "in.safetensors", "--force")[0] == 0
    assert_same(load_file("in.safetensors"), trained().state_dict())


@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        (2, ["freeze", "my.py"], "freeze: a function is written FILE.py:FUNCTION or MODULE:FUNCTION.\n  got: my.py\n"),
        (2, ["freeze", "gone.py:make"], "freeze: there is no file gone.py.\n  fix: write FILE.py:FUNCTION.\n"),
        (2, ["freeze", "my.py:mak"], "my.py:mak: my.py has no function `mak`.\n  fix: did you mean `make`?\n"),
        (
            2, ["freeze", "my.py:nothing"],
            "my.py:nothing: the function must return a torch.nn.Module.\n  got: NoneType\n",
        ),
        (
            2, ["fold", "my.py:make", "--data", "xs"],
            "fold: a function is written FILE.py:FUNCTION or MODULE:FUNCTION.\n  got: xs\n",
        ),
        (
            2, ["recalibrate", "my.py:make", "--data", "my.py:arrays"],
            "my.py:arrays: the function must return batches.\n  got: tuple\n"
            "  fix: return a loader, or a list of batches: tensors, (x, y) pairs or dictionaries.\n",
        ),
        (
            2, ["fold", "my.py:make", "--data", "my.py:empty"],
            "my.py:empty: there must be at least one batch.\n  got: none\n",
        ),
        (
            2, ["recalibrate", "my.py:make", "--data", "my.py:empty"],
            "my.py:empty: there must be at least one batch.\n  got: none\n",
        ),
        (
            2, ["freeze", "my.py:make", "--out", "."],
            "freeze: --out is a file, not a folder.\n  got: .\n  fix: write out.safetensors.\n",
        ),
        (
            2, ["freeze", "my.py:make", "--out", "out.pt"],
            "freeze: --out is a .safetensors.\n  got: out.pt\n  fix: write out.safetensors.\n",
        ),
        (
            2, ["freeze", "my.py:make", "--out", "gone/out.safetensors"],
            "freeze: the folder of --out must exist.\n  got: gone\n",
        ),
        (1, ["freeze", "my.py:make", "--weights", "gone.safetensors"], "gone.safetensors: there is no such file.\n"),
        (
            1, ["freeze", "my.py:make", "--where", "block"],
            "freeze_: `where` must name a norm layer.\n  got: 'block'\n  fix: choose one of: 1, 5, 7.\n",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_does_not_fit_is_said_without_a_trace(call: Call, code: int, words: list[str], text: str) -> None:
    found = call(*words)
    assert (found[0], found[1]) == (code, "")
    assert found[2].replace("a word of theirs\n", "") == text
    assert not Path("out.safetensors").exists()


@pytest.mark.parametrize("command", ["recalibrate", "fold"])
def test_what_their_code_raises_is_said_with_its_line(call: Call, command: str) -> None:
    code, _, err = call(command, "my.py:make", "--data", "my.py:wrong")
    assert code == 2
    assert "my.py:make: the network fails on the data: it raised RuntimeError: " in err
    assert "Traceback" not in err
    if command == "recalibrate":
        code, _, err = call(command, "my.py:make", "--data", "my.py:fails", "--out", "out.safetensors")
        assert (code, "my.py:fails: it raised KeyError: 'lost'.\n  got: " in err) == (2, True)
        assert not Path("out.safetensors").exists()


def test_a_fold_is_made_again_in_a_new_network_where_its_values_would_allow_more(
    call: Call, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first norm is kept, as it maps zero to something else; that of a new network could be folded."""
    write("""
        import torch
        from torch import nn

        def make():
            torch.manual_seed(0)
            return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))

        def trained():
            model = make()
            for _ in range(9):
                model(3 + 2 * torch.randn(8, 3, 6, 6))
            return model

        def xs():
            return [torch.ones(2, 3, 6, 6)]
        """, "padded.py")  # fmt: skip
    monkeypatch.syspath_prepend(Path.cwd())
    padded = importlib.import_module("padded")

    for words, where, border in (([], ["2"], "refuse"), (["--border", "pad"], ["0", "2"], "pad")):
        code, out, err = call("fold", "padded.py:trained", "--data", "padded.py:xs", "--out", "out.safetensors", *words)
        assert code == 0, err
        said = f", border={border!r}" * bool(words)
        recipe = f"normlab.tools.fold_(model, example, where={where}{said}, tolerance=float('inf'))"
        assert f"load   them after `{recipe}`\n" in out
        model, fresh = padded.trained(), padded.make()
        fold_(model, padded.xs()[0], border=border)
        fold_(fresh, padded.xs()[0], where=where, border=border, tolerance=float("inf"))
        fresh.load_state_dict(load_file("out.safetensors"))
        x = torch.randn(2, 3, 6, 6)
        assert torch.equal(fresh.eval()(x), model.eval()(x))
        Path("out.safetensors").unlink()


def test_nothing_changed_is_said_and_leaves_the_weights_as_they_came(call: Call) -> None:
    words = ("--weights", "in.safetensors", "--data", "my.py:xs", "--tolerance", "0", "--out", "out.safetensors")
    code, out, err = call("fold", "my.py:make", *words, "--where", "7")
    assert code == 0, err
    assert out.endswith("note   nothing was changed\nwrote  out.safetensors\n")
    assert_same(load_file("out.safetensors"), trained().state_dict())
    with safe_open("out.safetensors", framework="pt") as file:
        assert file.metadata()["normlab.load"] == ""
