"""Weights on disk: what is read, what is refused, and that a file is written whole or not at all."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from normlab import __version__
from normlab.errors import DataError
from normlab.tools.weights import read_weights, write_weights

STATE = {"0.weight": torch.arange(6.0).view(2, 3), "0.bias": torch.ones(2, dtype=torch.bfloat16)}
CONVERT = "convert it where it was made: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."


class Harmful:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return print, ("this must never be seen",)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        assert found[name].dtype == each.dtype
        assert torch.equal(found[name], each), name


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_weights(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_safetensors_are_read_with_what_they_say_of_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(STATE, path, metadata={"format": "pt", "from": "there"})
    found = read_weights(path)
    assert_equal(found.tensors, STATE)
    assert (found.metadata, found.notes) == ({"format": "pt", "from": "there"}, ())
    save_file(STATE, path)
    assert read_weights(path).metadata == {}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (STATE, ()),
        ({"state_dict": STATE, "epoch": 3}, ("read the weights in `state_dict` of the checkpoint",)),
        (
            {"model": STATE, "optimizer": {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": 0.1}]}},
            ("read the weights in `model` of the checkpoint",),
        ),
        ({"net": STATE, "args": {}, "best": torch.ones(())}, ("read the weights in `net` of the checkpoint",)),
    ],
    ids=["plain", "lightning", "with optimizer", "another name"],
)
def test_a_pickle_without_code_is_read(tmp_path: Path, suffix: str, content: Any, notes: tuple[str, ...]) -> None:
    path = tmp_path / f"a{suffix}"
    torch.save(content, path)
    found = read_weights(path)
    assert_equal(found.tensors, STATE)
    assert found.notes == notes


def test_what_would_run_code_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": STATE, "other": Harmful()}, tmp_path / "a.pt")
    text = refusal(tmp_path / "a.pt")
    assert text.startswith(
        "a.pt: it is not read, since that would run code that the file brings along, or it is damaged.\n"
        "  got: UnpicklingError: Weights only load failed"
    )
    assert text.endswith(f"\n  fix: {CONVERT}")
    assert len(text.splitlines()) == 3
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    assert refusal(tmp_path / "whole.pt").startswith("whole.pt: it is not read, since that would run code")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Harmful()))
    assert refusal(tmp_path / "old.pth").startswith("old.pth: it is not read, since that would run code")
    assert capsys.readouterr().out == ""


def test_what_holds_no_weights_is_refused(tmp_path: Path) -> None:
    for name, content, text in (
        (
            "two.pt", {"model": STATE, "model_ema": STATE, "epoch": 1},
            "two.pt: the checkpoint holds several sets of weights.\n  got: model, model_ema\n"
            "  fix: save the one that is meant: torch.save(checkpoint['model'], 'weights.pt').",
        ),
        (
            "none.pt", {"epoch": 1, "loss": [0.5]},
            f"none.pt: there is no state_dict in it.\n  got: epoch, loss\n  fix: {CONVERT}",
        ),
        ("empty.pt", {}, f"empty.pt: there is no state_dict in it.\n  got: nothing\n  fix: {CONVERT}"),
        ("tensor.pt", torch.ones(2), f"tensor.pt: there is no state_dict in it.\n  got: Tensor\n  fix: {CONVERT}"),
    ):  # fmt: skip
        torch.save(content, tmp_path / name)
        assert refusal(tmp_path / name) == text
    assert refusal(tmp_path / "gone.safetensors") == "gone.safetensors: there is no such file."
    (tmp_path / "a.onnx").touch()
    assert refusal(tmp_path / "a.onnx") == (
        f"a.onnx: weights are in files .safetensors, or .pt, .pth, .bin, .ckpt.\n  got: .onnx\n  fix: {CONVERT}"
    )
    for damage in (b"", b"not a safetensors at all", b"\xff" * 64):
        (tmp_path / "a.safetensors").write_bytes(damage)
        assert refusal(tmp_path / "a.safetensors").startswith(
            "a.safetensors: the file is damaged, or no safetensors.\n  got: Error while deserializing header"
        )


def test_what_is_written_is_the_state_of_the_model_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Embedding(6, 5), nn.Linear(5, 6), nn.Linear(5, 6))
    model.to(memory_format=torch.channels_last)
    model[3].weight = model[2].weight
    model[4].weight = nn.Parameter(torch.ones(6, 12)[:, ::2][:, :5])  # no block of memory of its own
    model[4].half()
    write_weights(path, model, {"normlab.load": "as it is"})
    assert_equal(load_file(path), model.state_dict())
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "normlab.load": "as it is", "normlab": __version__}
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_weights(path, nn.Linear(2, 2), {})
    before = path.read_bytes()

    def fails(state: Any, where: Path, metadata: Any) -> None:
        where.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr("normlab.tools.weights.save_file", fails)
    with pytest.raises(DataError) as caught:
        write_weights(path, nn.Linear(2, 2), {})
    assert str(caught.value) == f"{path}: the weights cannot be written.\n  got: no space left on device"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_tensor_cannot_be_written(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        def get_extra_state(self) -> int:
            return 3

        def set_extra_state(self, state: int) -> None:
            pass

    path = tmp_path / "a.safetensors"
    with pytest.raises(DataError) as caught:
        write_weights(path, nn.Sequential(Counting(2, 2)), {})
    assert str(caught.value) == (
        f"{path}: safetensors hold tensors only, and the model keeps something else.\n  got: 0._extra_state: int"
    )
    with pytest.raises(DataError) as caught:
        write_weights(tmp_path / "gone" / "a.safetensors", nn.Linear(2, 2), {})
    assert str(caught.value).startswith(f"{tmp_path}/gone/a.safetensors: the weights cannot be written.\n  got: ")
    assert list(tmp_path.iterdir()) == []
