"""Two processes with unequal batches against one process with both."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tools.sync_process import Doubled, batches, cases, layer, upstream
from torch import nn

from normlab import errors, layers
from normlab.tools.freeze import freeze_
from normlab.tools.norms import ChannelsLast
from normlab.tools.sync import sync_, unsync_

BOUND = {torch.float32: 1e-6, torch.float64: 1e-12}  # the promise of the issue, on values of unit size


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sync")
    program = Path(__file__).parent / "sync_process.py"
    both = [
        subprocess.Popen([sys.executable, str(program), str(rank), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for each in both:
        _, said = each.communicate(timeout=120)
        assert each.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", cases())
def test_as_one_process(case: str, found: list[dict[str, Any]]) -> None:
    split, dtype, mean = cases()[case]
    kind = Doubled if case.startswith("subclass") else nn.BatchNorm2d
    xs = batches(split, dtype, mean)
    twin = layer(torch.float64, kind)
    # positions of one channel in one long row, as the pictures may differ in size
    rows = torch.cat([x.double().movedim(1, -1).reshape(-1, x.shape[1]) for x in xs])[:, :, None, None].requires_grad_()
    dy = torch.cat([each.double().movedim(1, -1).reshape(-1, each.shape[1]) for each in upstream(xs)])[:, :, None, None]
    y = twin(rows)
    y.backward(dy)
    bound = BOUND[dtype] * max(1.0, mean)  # the mean itself is rounded

    def row(name: str) -> torch.Tensor:
        return torch.cat([each[case][name].double().movedim(1, -1).reshape(-1, 3) for each in found])

    for ours, theirs in ((row("y"), y), (row("dx"), rows.grad)):
        scale = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs.detach()[:, :, 0, 0], rtol=0, atol=bound * scale)
    shares = [each[case] for each in found]
    for name, theirs in (("dweight", twin.weight.grad), ("dbias", twin.bias.grad)):
        sums = sum(each[name].double() for each in shares)
        torch.testing.assert_close(sums, theirs, rtol=0, atol=bound * len(rows) ** 0.5 * 4)
    for each in shares:
        torch.testing.assert_close(each["mean"].double(), twin.running_mean, rtol=bound, atol=bound)
        torch.testing.assert_close(each["var"].double(), twin.running_var, rtol=bound, atol=bound)
        assert each["commits"] == 1
        assert each["type"] == (kind is Doubled)
    assert torch.equal(shares[0]["mean"], shares[1]["mean"])
    assert torch.equal(shares[0]["var"], shares[1]["var"])


def test_under_ddp(found: list[dict[str, Any]]) -> None:
    twin = nn.Sequential(nn.Conv2d(3, 3, 1), layer(torch.float64), nn.ReLU()).double()
    with torch.no_grad():
        for each in twin[0].parameters():
            each.copy_(torch.linspace(-1, 1, each.numel()).view_as(each))
    xs = batches("equal", torch.float64)
    twin(torch.cat(xs)).backward(torch.cat(upstream(xs)) / 2)  # DDP averages over the two
    for name, each in twin.named_parameters():
        for rank in range(2):
            torch.testing.assert_close(found[rank]["ddp"][name], each.grad, rtol=0, atol=1e-12 * 50)


def test_one_value_in_all_is_refused_by_every_process(found: list[dict[str, Any]]) -> None:
    expected = (
        "sync_batch_norm: Expected more than 1 value per channel when training.\n"
        "  got: 1 in all of 2 processes\n"
        "  fix: pass more samples, or `eval()` if this is evaluation."
    )
    assert [each["one value"] for each in found] == [expected] * 2


def test_what_is_synchronized_and_what_is_not() -> None:
    class Own(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input

    frozen = nn.Sequential(nn.BatchNorm1d(2))
    freeze_(frozen)
    model = nn.ModuleDict({
        "plain": nn.BatchNorm2d(2), "own": Own(2), "layer": nn.LayerNorm(2), "instance": nn.InstanceNorm1d(2),
        "frozen": frozen, "ghost": layers.GhostBatchNorm1d(2, 4), "stock": nn.SyncBatchNorm(2),
        "last": ChannelsLast(nn.BatchNorm1d(2)), "lean": layers.BatchNorm1d(2),
    })  # fmt: skip
    weight = model["plain"].weight
    report = sync_(model)
    assert [each.name for each in report.touched] == ["plain", "stock", "last", "lean"]
    assert {each.name: each.reason for each in report.skipped} == {
        "own": "Own has a forward of its own that does not call the one it inherits",
        "layer": "layer norm takes its statistics from each sample, whatever other processes have",
        "instance": "instance norm takes its statistics from each sample, whatever other processes have",
        "frozen.0": "it is frozen, and normalizes by its running statistics",
        "ghost": "it normalizes in parts that are smaller than the batch of one process",
    }
    assert model["plain"].weight is weight
    assert type(model["plain"]) is layers.BatchNorm2d
    assert [each.same for each in sync_(model).skipped if each.name == "plain"] == [True]
    assert [each.name for each in unsync_(model).touched] == ["plain", "stock", "last", "lean"]
    assert type(model["plain"]) is nn.BatchNorm2d
    assert "skipped_non_finite" not in dict(model["plain"].named_buffers())
    assert type(model["lean"]) is layers.BatchNorm1d


def test_a_frozen_layer_is_not_woken_on_the_way_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2))
    sync_(model)
    freeze_(model)
    assert unsync_(model).skipped[0].reason == "it is frozen: unfreeze it first"
    assert not model.train()[0].training


def test_alone_it_is_batch_norm_and_can_be_copied() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3))
    twin = copy.deepcopy(model)
    sync_(model)
    x = torch.randn(4, 3)
    assert torch.equal(copy.deepcopy(model)(x), twin(x))
    assert list(model.state_dict()) == list(twin.state_dict())


def test_back_from_the_layer_of_torch() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2)))
    assert unsync_(model).skipped[0].reason.endswith("pass an example that reaches it")
    unsync_(model, torch.randn(2, 2, 5))
    assert type(model[1]) is nn.BatchNorm1d
    assert model(torch.randn(2, 2, 5)).shape == (2, 2, 5)


def test_a_model_that_is_scripted_is_refused() -> None:
    class ScriptModule(nn.Module):
        pass

    with pytest.raises(errors.InvalidInputError) as caught:
        sync_(ScriptModule())
    assert str(caught.value) == (
        "sync_: `model` must not be scripted: its layers cannot be changed any more.\n"
        "  got: ScriptModule\n"
        "  fix: sync_ first, then script it."
    )
