"""Parameters of 16 bits, and statistics of 32."""

import copy
from typing import Any

import pytest
import torch
from tests.layers.oracle import close, random
from torch import nn

from normlab import layers

KINDS: dict[str, Any] = {
    "batch": lambda **how: layers.BatchNorm1d(3, **how),
    "instance": lambda **how: layers.InstanceNorm1d(3, affine=True, track_running_stats=True, **how),
    "domains": lambda **how: layers.DomainBatchNorm1d(3, ["a", "b"], **how),
    "ghost": lambda **how: layers.GhostBatchNorm1d(3, 2, **how),
    "renorm": lambda **how: layers.BatchRenorm1d(3, **how),
}
kinds = pytest.mark.parametrize("kind", KINDS)
narrow = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


@kinds
@narrow
@pytest.mark.parametrize("when", ["built", "converted", "in a model"])
def test_statistics_stay_in_float32(kind: str, dtype: torch.dtype, when: str) -> None:
    """A deviation of 300 has a variance of 90,000, and float16 ends at 65,504."""
    layer = KINDS[kind](dtype=dtype) if when == "built" else KINDS[kind]()
    if when != "built":
        (nn.Sequential(layer) if when == "in a model" else layer).to(dtype)
    assert {each.dtype for each in layer.parameters()} == {dtype}
    assert {each.dtype for each in layer.buffers()} == {torch.float32, torch.int64}
    x = (300 * random(64, 3, 8)).to(dtype)
    layer.momentum = 1.0
    y = layer(x)
    assert y.dtype == dtype
    assert bool(y.isfinite().all())
    assert bool((layer.running_var > 65_504).all())
    y = layer.eval()(x)
    assert y.dtype == dtype
    close(y, (x.double() - layer.running_mean[:, None]) / (layer.running_var[:, None] + layer.eps).sqrt(),
          tolerance=2 * torch.finfo(dtype).eps)  # fmt: skip


@narrow
def test_gradients_reach_the_parameters(dtype: torch.dtype) -> None:
    layer = layers.BatchNorm1d(3).to(dtype)
    for mask in (None, torch.tensor([True, True, True, False])):
        for training in (True, False):
            x = random(4, 3, dtype=dtype).requires_grad_()
            layer.train(training)(x, mask).sum().backward()
            assert x.grad.dtype == layer.weight.grad.dtype == dtype


@kinds
def test_there_and_back(kind: str) -> None:
    layer = KINDS[kind]()
    layer(random(8, 3, 4, dtype=torch.float32))
    before = {name: each.clone() for name, each in layer.named_buffers()}
    layer.half().float()
    for name, value in before.items():
        assert torch.equal(layer.get_buffer(name), value)
    layer.double()
    assert {each.dtype for each in (*layer.buffers(), *layer.parameters())} == {torch.float64, torch.int64}
    assert layer(random(8, 3, 4)).dtype == torch.float64


def test_a_state_of_torchs_half() -> None:
    """Its running statistics are of 16 bits, and are widened; and ours go into one."""
    stock, layer = nn.BatchNorm1d(3).half(), layers.BatchNorm1d(3).half()
    stock(random(8, 3, dtype=torch.float16))
    layer.load_state_dict(stock.state_dict())
    assert layer.running_mean.dtype == torch.float32
    assert torch.equal(layer.running_mean, stock.running_mean.float())
    stock.load_state_dict(layer.state_dict())


def test_what_is_not_saved_begins_at_nothing() -> None:
    """Built on the meta device, its memory is whatever was there; `load_state_dict` fills the rest."""
    with torch.device("meta"):
        layer = layers.BatchNorm1d(3)
    layer.to_empty(device="cpu")
    layer.load_state_dict(layers.BatchNorm1d(3).state_dict())
    assert int(layer.skipped_non_finite) == 0
    layer(torch.full((4, 3), torch.nan))
    layer.to_empty(device="cpu")  # from where it is known, it is left alone
    copied = copy.deepcopy(layers.BatchNorm1d(3))
    copied.skipped_non_finite.add_(2)
    assert int(copied.double().skipped_non_finite) == 2


def test_a_deviation_far_above_one_in_16_bits() -> None:
    """RMS norm without eps takes that of the dtype it is computed in, as PyTorch's: not of the one it is given."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor([[1e-3, 2e-3, 1e-3]], dtype=dtype)
        theirs = nn.functional.rms_norm(x, [3])
        close(layers.RMSNorm(3)(x, mask=torch.ones(3, dtype=torch.bool)), theirs, tolerance=2 * torch.finfo(dtype).eps)
