"""The family in plain torch, on the view, in float32 and at large means."""

import copy
from typing import Any

import pytest
import torch
from tests.layers.oracle import close, learned, passed, random
from tests.tolerances import beside_torch
from torch import nn

from normlab import layers
from normlab.kernels import formula
from normlab.kernels.view import batch_view, group_view, layer_view, statistics_dtype

PAIRS: dict[str, Any] = {
    "batch": (lambda: layers.BatchNorm2d(6), lambda: nn.BatchNorm2d(6)),
    "instance": (lambda: layers.InstanceNorm2d(6, affine=True), lambda: nn.InstanceNorm2d(6, affine=True)),
    "group": (lambda: layers.GroupNorm(2, 6), lambda: nn.GroupNorm(2, 6)),
    "layer": (lambda: layers.LayerNorm((8, 7)), lambda: nn.LayerNorm((8, 7))),
    "rms": (lambda: layers.RMSNorm((8, 7)), lambda: nn.RMSNorm((8, 7))),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("regime", ["unit", "mean 1e3", "mean 1e4", "tiny", "constant", "huge"])
def test_beside_torch(name: str, masked: bool, regime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 at most twice as far from float64 as PyTorch is, with a mask of which nothing is False."""
    monkeypatch.setattr("normlab.kernels.pick.forced", "formula")
    ours, stock = (learned(make()) for make in PAIRS[name])
    exact = copy.deepcopy(stock).double()
    x = random(5, 6, 8, 7)
    x = {
        "unit": x,
        "mean 1e3": x + 1e3,
        "mean 1e4": x + 1e4,
        "tiny": 1e-4 * x,
        "constant": 0 * x + 7,
        "huge": 1e12 * x,
    }[regime].float()
    dy = random(5, 6, 8, 7, seed=1, dtype=torch.float32)
    mask = torch.ones((5, 6, 8, 7) if name in ("layer", "rms") else (5, 8, 7), dtype=torch.bool) if masked else None
    found = passed(ours, x, dy, **({} if mask is None else {"mask": mask}))
    theirs, truth = passed(stock, x, dy), passed(exact, x.double(), dy.double())
    for what, mine, torchs, right in zip(("y", "dx", "dweight", "dbias"), found, theirs, truth, strict=False):
        beside_torch(mine, torchs, right, what)


def test_the_mean_is_subtracted_to_the_last_digit() -> None:
    """A mean of 1e4 is rounded by 5e-4 in float32; Σ x_hat is 0 all the same."""
    x = random(64, 3, mean=1e4, dtype=torch.float32)
    found = formula.normalize(x, None, None, None, batch_view(x, 1), 1e-5)
    exact = x.double()
    close(found.y.double().mean(0), torch.zeros(3), tolerance=torch.finfo(torch.float32).eps)
    torch.testing.assert_close(found.var, exact.var(0, correction=0).float())


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_views_there_and_back(axis: int) -> None:
    x = random(2, 4, 3, 5)
    for view in (batch_view(x, axis), group_view(x, 2), layer_view(x, 2), layer_view(x, 4)):
        assert torch.equal(view.unfold(view.fold(x), x), x)
        assert view.set_size * x.numel() // view.set_size == x.numel()
    view = batch_view(x, axis)
    sums = view.fold(x).sum(view.axes)
    close(sums.flatten(), x.movedim(axis, 0).flatten(1).sum(1))
    close(view.of_weight(sums.flatten()).flatten(), sums.flatten())


def test_moments_are_wide() -> None:
    wide = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float32: torch.float32,
            torch.float64: torch.float64}  # fmt: skip
    for dtype, expected in wide.items():
        assert statistics_dtype(torch.zeros(1, dtype=dtype)) == expected
        found = formula.normalize(
            torch.zeros(2, 3, dtype=dtype), None, None, None, layer_view(torch.zeros(2, 3), 1), 1.0
        )
        assert (found.y.dtype, found.mean.dtype) == (dtype, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_is_junk(dtype: torch.dtype) -> None:
    """The product of two values that are not must be finite."""
    largest = formula.LARGEST[dtype]
    a = torch.tensor([1.0, largest, 1.1 * largest, torch.inf, -torch.inf, torch.nan], dtype=dtype)
    assert formula.junk(a, torch.zeros(6, dtype=torch.bool)).tolist() == [False, False, True, True, True, True]
    assert not formula.junk(a, torch.ones(6, dtype=torch.bool)).any()
    assert (a[1] * a[1]).isfinite()
