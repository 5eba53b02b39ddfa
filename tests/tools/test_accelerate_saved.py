"""Copies and files of an accelerated model: the same model, here and in another process, and no code in them."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tolerances import TRAINING
from tests.tools.blocks import Nested, Residual
from tests.tools.test_accelerate import assert_same, built
from torch import nn

from normlab import accelerate_
from normlab.errors import InvalidInputError
from normlab.tools import rewritten

ROOT = Path(__file__).parent.parent.parent
X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def stock() -> nn.Module:
    return built(
        lambda: nn.Sequential(
            Residual(3, 4, 2),
            Residual(4, 4),
            nn.BatchNorm2d(4),
            nn.LeakyReLU(0.3),
            nn.Flatten(),
            nn.Linear(36, 5),
            Nested(),
        )
    )


def network() -> nn.Module:
    model = stock()
    accelerate_(model)
    return model


def pickled(model: nn.Module) -> nn.Module:
    made: nn.Module = pickle.loads(pickle.dumps(model))  # noqa: S301  # our own bytes
    return made


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    made: nn.Module = torch.load(file, weights_only=False)
    return made


WAYS = [copy.deepcopy, copy.copy, pickled, saved]


@pytest.mark.parametrize("new", [False, True], ids=["same process", "as in another"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_copy_is_the_same_model(way: Any, new: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    before = [type(each) for each in model.modules()]
    if new:
        monkeypatch.setattr(rewritten, "CLASSES", {})
    other = way(model)
    if not new:
        assert [type(each) for each in other.modules()] == before
    assert [type(each).__name__ for each in other.modules()] == [each.__name__ for each in before]
    assert type(other[0]).forward is not Residual.forward
    assert isinstance(other[0], Residual)
    x = X[:, 0, 0, :5]
    assert torch.equal(other.eval()[-1](x, factor=0.1), model.eval()[-1](x, factor=0.1))
    model.train(), other.train()
    assert repr(other) == repr(model)
    if way is not copy.copy:  # which shares the layers
        assert_same(other, model, X)
        assert_same(other.eval().train(), copy.deepcopy(model), X)


def test_hooks_of_later_are_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    for each in model.modules():
        each.register_forward_hook(print)
    monkeypatch.setattr(rewritten, "CLASSES", {})
    other = pickled(model)
    assert type(other[0]).forward is not Residual.forward
    assert [len(each._forward_hooks) for each in other.modules()] == [1] * len(list(model.modules()))


def test_there_is_no_code_in_a_file() -> None:
    written = pickle.dumps(network())
    assert b"def forward" not in written
    assert b"code" not in written
    file = io.BytesIO()
    torch.save(network(), file)
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(file, weights_only=True)


def test_weights_alone_go_both_ways(tmp_path: Path) -> None:
    model = network()
    twin = stock()
    torch.save(model.state_dict(), tmp_path / "ours.pt")
    twin.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), strict=True)
    assert_same(model, twin, X)


def test_another_process(tmp_path: Path) -> None:
    model = network()
    torch.save(model, tmp_path / "model.pt")
    torch.save(X, tmp_path / "x.pt")
    code = (
        "import sys, torch\n"
        "model = torch.load(sys.argv[1] + '/model.pt', weights_only=False)\n"
        "assert 'Rewritten' in [each.__name__ for each in type(model[0]).__mro__]\n"
        "y = model.train()(torch.load(sys.argv[1] + '/x.pt'))\n"
        "torch.save((y.detach(), model.state_dict()), sys.argv[1] + '/y.pt')\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    y, state = torch.load(tmp_path / "y.pt")
    torch.testing.assert_close(y, model.train()(X).detach(), rtol=TRAINING, atol=TRAINING)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=TRAINING, atol=TRAINING)


def without(self: Any, x: torch.Tensor) -> torch.Tensor:
    return self.relu(self.bn1(self.conv1(x)))


def other(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = self.relu(self.bn1(self.conv1(x)))
    return torch.nn.functional.silu(self.bn2(self.conv2(y)) + x)


def nothing(self: Any, x: torch.Tensor) -> torch.Tensor:
    y = self.relu(self.bn1(self.conv1(x)))
    return self.bn2(self.conv2(y)).sigmoid()


def branches(self: Any, x: torch.Tensor) -> torch.Tensor:
    return x if x.sum() > 0 else self.bn2(self.bn1(x))


TRACE_ERROR = "TraceError: symbolically traced variables cannot be used as inputs to control flow"


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (without, "bn2: it is not called"),
        (other, "bn2: what follows it is not what it was"),
        (nothing, "bn2: nothing follows it"),
        (branches, f"cannot be followed: {TRACE_ERROR}"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_class_that_has_changed_says_so(forward: Any, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = pickle.dumps(network())
    monkeypatch.setattr(rewritten, "CLASSES", {})
    monkeypatch.setattr(Residual, "forward", forward)
    with pytest.raises(InvalidInputError) as raised:
        pickle.loads(written)  # noqa: S301  # our own bytes
    assert str(raised.value) == (
        "Residual: what `accelerate_` rewrote cannot be loaded, as the forward of its class is another one now.\n"
        f"  got: {reason}\n"
        "  fix: build the model, load its state_dict, and accelerate it."
    )


def test_a_copy_in_this_process_is_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    monkeypatch.setattr(rewritten, "rewritten_class", None)
    assert type(copy.deepcopy(model)[0]) is type(model[0])


def test_a_model_that_averages_weights() -> None:
    model = network()
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    torch.testing.assert_close(average(X), model(X), rtol=TRAINING, atol=TRAINING)
