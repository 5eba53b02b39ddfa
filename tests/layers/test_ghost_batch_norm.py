"""Ghost batch norm, against the reference."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.layers.oracle import close, learned, passed, random
from torch import nn

from normlab import layers, reference
from normlab.errors import InvalidInputError
from normlab.layers.ghost_batch_norm import _parts


@pytest.mark.parametrize("virtual_batch", [1, 3, 4, 7, 8, 99])
@pytest.mark.parametrize("axis", [1, -1, 0])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_against_the_reference(virtual_batch: int, axis: int, masked: bool) -> None:
    """Values, gradients, and one commit for each part, in order."""
    layer = learned(layers.GhostBatchNorm1d(3, virtual_batch=virtual_batch, axis=axis).double())
    shape = {1: (8, 3, 5), -1: (8, 5, 3), 0: (3, 8, 5)}[axis]
    mask = random(8, 5, seed=8) > 0 if masked else None
    if mask is not None:
        mask[3:6] = False  # a part, or most of one
        mask[2, 1:] = False
    how = {"virtual_batch": virtual_batch, "axis": axis, "mask": None if mask is None else mask.numpy()}
    weights = [each.detach().numpy() for each in layer.parameters()]
    for seed in range(2):
        x, dy = random(*shape, seed=seed, mean=3.0), random(*shape, seed=seed + 50)
        running = layer.running_mean.numpy(), layer.running_var.numpy()
        for batch in reference.ghost_batch_norm_statistics(x.numpy(), **how):
            running = reference.update_running(*running, *batch)
        theirs = [
            reference.ghost_batch_norm(x.numpy(), *weights, **how),
            *reference.ghost_batch_norm_vjp(dy.numpy(), x.numpy(), *weights, **how),
        ]
        for mine, each in zip(passed(layer, x, dy, mask=mask), theirs, strict=True):
            close(mine, each)
        for mine, each in zip((layer.running_mean, layer.running_var), running, strict=True):
            close(mine, each)
    assert int(layer.skipped_non_finite) == 0
    layer.eval()
    close(layer(x), nn.functional.batch_norm(
        x.movedim(axis, 1), layer.running_mean, layer.running_var, layer.weight, layer.bias
    ).movedim(1, axis))  # fmt: skip


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(1, 3))
def test_where_the_cuts_are(samples: int, virtual_batch: int, positions: int) -> None:
    theirs = reference.ghost_batches(samples, positions, virtual_batch)
    assert _parts(samples, virtual_batch, positions) == [each.stop - each.start for each in theirs]


def test_single_values_have_a_mean_and_no_spread() -> None:
    """What a mask leaves of parts of two is committed as a mean."""
    layer = layers.GhostBatchNorm1d(2, virtual_batch=2, momentum=None).double()
    x = random(4, 2)
    layer(x, mask=torch.tensor([True, False, True, False]))
    close(layer.running_mean, x[::2].mean(0))
    assert layer.running_var.tolist() == [1.0, 1.0]
    assert (int(layer.num_batches_tracked), int(layer.skipped_non_finite)) == (2, 0)


def test_parts_of_a_single_value_are_refused() -> None:
    layer = layers.GhostBatchNorm1d(3, virtual_batch=1)
    with pytest.raises(InvalidInputError) as raised:
        layer(torch.randn(4, 3))
    assert str(raised.value) == (
        "GhostBatchNorm1d: Expected more than 1 value per channel in each part when training.\n"
        "  got: virtual_batch = 1; input (4, 3) float32 cpu\n"
        "  fix: take a larger `virtual_batch`."
    )
    assert layer(torch.randn(4, 3, 2)).shape == (4, 3, 2)


def test_synchronization_is_refused() -> None:
    with pytest.raises(InvalidInputError) as raised:
        layers.GhostBatchNorm1d(3, virtual_batch=4, synced=True)
    assert str(raised.value) == (
        "GhostBatchNorm1d: `synced` cannot be set.\n"
        "  got: it normalizes in parts that are smaller than the batch of one process"
    )


def test_a_part_that_is_not_finite_is_not_committed() -> None:
    layer, stock = layers.GhostBatchNorm1d(2, virtual_batch=4).double(), nn.BatchNorm1d(2).double()
    x = random(12, 2)
    x[5, 0] = torch.nan
    y = layer(x)
    for part in (x[:4], x[8:]):
        stock(part)
    close(layer.running_var, stock.running_var)
    assert int(layer.skipped_non_finite) == 1
    assert torch.equal(y.isnan().any(1), torch.arange(12).div(4, rounding_mode="floor") == 1)


def test_copies_and_state() -> None:
    layer = layers.GhostBatchNorm2d(3, virtual_batch=2)
    nn.BatchNorm2d(3).load_state_dict(layer.state_dict())
    assert repr(layer) == (
        "GhostBatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True, "
        "virtual_batch=2)"
    )
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  # our own bytes
        assert other.virtual_batch == 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: layers.GhostBatchNorm1d(3, virtual_batch=0),
            "GhostBatchNorm1d: `virtual_batch` must be a whole number, at least 1.\n  got: 0",
        ),
        (
            lambda: layers.GhostBatchNorm1d(3, virtual_batch=2, eps=0.0)(torch.zeros(4, 3)),
            "GhostBatchNorm1d: eps must be positive in training, where a channel may have no spread.\n"
            "  got: eps = 0.0\n"
            "  fix: PyTorch's is 1e-5.",
        ),
    ],
)
def test_what_is_refused(call: object, text: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        call()
    assert str(raised.value) == text
