"""The table of norms beyond what a config says; the formulas are in tests/lab/test_norms.py."""

import pytest
import torch
from tests.tolerances import ROUNDINGS
from torch import nn

from normlab.tools.norms import NORMS, ChannelRMSNorm, ChannelsLast, How, Where, misfit

ROUNDED = ROUNDINGS * 2.0**-23 / 1e-5**0.5  # float32 roundings of a value of unit size, divided by √eps


@pytest.mark.parametrize("spatial", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", sorted(set(NORMS) - {"none"}))
def test_weight_and_bias_can_be_left_out(kind: str, spatial: int) -> None:
    if misfit(kind, Where(8, spatial), How(groups=2)):
        return
    learned = [
        {name for name, _ in NORMS[kind](Where(8, spatial, affine, bias), How(groups=2)).named_parameters()}
        for affine, bias in ((True, True), (True, False), (False, False))
    ]
    assert learned == [{"weight"} if kind == "rms" else {"weight", "bias"}, {"weight"}, set()]


@pytest.mark.parametrize(
    ("kind", "where", "reason"),
    [
        ("group", Where(30, 2), "8 groups do not divide 30 channels"),
        ("group", Where(8, 0), "8 groups of 8 units leave one unit in each: the output would be the bias"),
        ("group", Where(8, 2, positions=1), "8 groups of 8 units leave one unit in each: the output would be the bias"),
        ("group", Where(8, 2, positions=2), ""),
        ("group", Where(8, 2), ""),
        ("batch", Where(8, 3), ""),
        ("batch", Where(8, 4), "batch norm takes at most 3 dimensions of positions, and here are 4"),
        ("instance", Where(8, 4), "instance norm takes at most 3 dimensions of positions, and here are 4"),
        ("instance", Where(8, 0), "instance norm takes its moments over positions, and here are none"),
        (
            "instance",
            Where(8, 1, positions=1),
            "instance norm takes its moments over positions, and here is one: the output would be the bias",
        ),
        ("layer", Where(1, 2, positions=1), "layer norm of a single number leaves at most its sign"),
        ("layer", Where(1, 2, positions=2), ""),
        ("rms", Where(1, 0, positions=1), "rms norm of a single number leaves at most its sign"),
        ("rms", Where(2, 0, positions=1), ""),
        ("none", Where(1, 9, positions=1), ""),
    ],
    ids=str,
)
def test_why_a_norm_cannot_stand_somewhere(kind: str, where: Where, reason: str) -> None:
    assert misfit(kind, where, How(groups=8)) == reason


@pytest.mark.parametrize(
    ("kind", "where"),
    [("group", Where(4, 2, positions=1)), ("instance", Where(4, 1, positions=1)), ("layer", Where(1, 1, positions=1))],
)
def test_what_is_refused_would_be_the_bias_whatever_the_input(kind: str, where: Where) -> None:
    """Seen on PyTorch's layers: instance norm refuses in train mode too."""
    layer = NORMS[kind](where, How(groups=4))
    x = torch.randn(3, where.channels, *[1] * where.spatial)
    if kind == "instance":
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            layer(x)
    else:
        assert layer(x).abs().max() < ROUNDED
    assert misfit(kind, where, How(groups=4))


def test_a_channel_rms_norm_takes_any_memory_format_and_has_its_gradient() -> None:
    norm = ChannelRMSNorm(3, 1e-2).double()
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = x / (x.square().mean((1, 2, 3), keepdim=True) + 1e-2).sqrt()
    assert torch.allclose(norm(x.contiguous(memory_format=torch.channels_last)), expected, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(norm, x.requires_grad_())


def test_channels_last_says_where_the_samples_are() -> None:
    assert "samples" not in ChannelsLast(nn.BatchNorm1d(2)).extra_repr()
    assert ChannelsLast(nn.BatchNorm1d(2), samples=1).extra_repr() == "samples=1"
