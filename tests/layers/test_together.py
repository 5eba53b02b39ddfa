"""The layers that PyTorch has not, and masks: compiled, exported, and in `DistributedDataParallel`."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.layers.oracle import close, random
from tests.tolerances import TRAINING
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from normlab import layers


class Beyond(nn.Module):
    """With a mask and without, of channels in the middle and last."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.ModuleList([
            layers.BatchRenorm1d(4, schedule=(0, 0, 0)),
            layers.GhostBatchNorm1d(4, virtual_batch=2),
            layers.BatchNorm1d(4, normalize_with="running"),
            layers.InstanceNorm1d(4, track_running_stats=True, rule="cumulative"),
            layers.GroupNorm(2, 4),
        ])  # fmt: skip
        self.whole = nn.ModuleList([layers.DomainBatchNorm1d(4, ["a", "b"]), layers.GhostBatchNorm1d(4, 2),
                                    layers.BatchRenorm1d(4), layers.BatchNorm1d(4, rule="debiased")])  # fmt: skip
        self.last = nn.ModuleList([layers.BatchNorm1d(4, axis=-1)])
        self.elements = nn.ModuleList([layers.LayerNorm(4), layers.RMSNorm(4)])

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for layer in self.middle:
            x = layer(x, mask)
        for layer in self.whole:
            x = layer(x)
        x = x.transpose(1, 2)
        for layer in self.last:
            x = layer(x, mask)
        for layer in self.elements:
            x = layer(x, mask[..., None])
        return x


X, MASK = random(6, 4, 5), random(6, 5, seed=1) > -0.5


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_compiles_whole(training: bool) -> None:
    model = Beyond().double().train(training)
    twin = copy.deepcopy(model)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for call in (compiled, twin):
        call(X, MASK).square().sum().backward()
    for name, value in twin.state_dict().items():
        close(model.state_dict()[name], value, TRAINING)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        close(mine.grad, theirs.grad, TRAINING)


def test_exports() -> None:
    model = Beyond().double().eval()
    exported = torch.export.export(model, (X, MASK)).module()
    other = random(6, 4, 5, seed=2)
    torch.testing.assert_close(exported(other, MASK.flip(0)), model(other, MASK.flip(0)))


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_in_ddp() -> None:
    """Its buffers are sent around before each forward, and it looks for parameters without gradient."""
    model = nn.Sequential(nn.Conv1d(4, 4, 3), layers.BatchNorm1d(4), layers.GhostBatchNorm1d(4, 2),
                          layers.InstanceNorm1d(4, track_running_stats=True), layers.LayerNorm(3))  # fmt: skip
    model[1].synced = True
    twin = copy.deepcopy(model)
    wrapped = DistributedDataParallel(model)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (wrapped, twin)]
    for seed in range(3):
        x = random(6, 4, 5, seed=seed, dtype=torch.float32)
        for call, optimizer in zip((wrapped, twin), optimizers, strict=True):
            optimizer.zero_grad()
            call(x).square().sum().backward()
            optimizer.step()
    for name, value in twin.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    with layers.stats_frozen(wrapped):
        wrapped(x)
    with layers.accumulate(wrapped, 2):
        wrapped(x)
        wrapped(x)
    assert int(model[1].num_batches_tracked) == 4


@pytest.mark.usefixtures("one_process")
def test_what_is_synchronized_commits_what_all_have_seen() -> None:
    """Also where the running statistics normalize."""
    for normalize in ("batch", "running"):
        layer, twin = (
            layers.BatchNorm1d(3, normalize_with=normalize, synced=synced).double() for synced in (True, False)
        )
        x, mask = random(5, 3, 4, mean=4.0), random(5, 4, seed=2) > 0
        for given in ((x,), (x, mask)):
            torch.testing.assert_close(layer(*given), twin(*given))
            torch.testing.assert_close(layer.running_var, twin.running_var)
        before = layer.running_mean.clone()
        if normalize == "running":
            layer(x, torch.zeros_like(mask))
            assert torch.equal(layer.running_mean, before)
