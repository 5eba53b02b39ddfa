"""A norm before a convolution that pads with zeros: refused with the error there, or given a border of its own."""

import copy
from typing import Any

import pytest
import torch
from tests.tolerances import FOLD_FLOAT32, TORCH
from torch import nn

from normlab.tools.fold import fold_
from normlab.tools.fold_border import ChannelPad


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for each in model.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.running_mean.normal_(generator=generator)
                each.running_var.uniform_(0.3, 3, generator=generator)
        for each in model.parameters():
            each.normal_(generator=generator)
    return model


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(x)


def naively_folded(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> nn.Conv2d:
    """As is written in tutorials: scale and shift go into the weight and the bias."""
    naive = copy.deepcopy(conv)
    with torch.no_grad():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
        naive.weight.copy_(conv.weight * scale.view(1, -1, 1, 1))
        naive.bias.copy_(conv.bias + (conv.weight * shift.view(1, -1, 1, 1)).sum((1, 2, 3)))
    return naive


def test_the_error_at_the_border_is_measured_and_shown() -> None:
    norm, conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)
    model, x = drawn(nn.Sequential(norm, conv)), numbers(2, 3, 7, 7)
    expected = run(model, x)
    off = (run(naively_folded(norm, conv), x) - expected).abs() / expected.abs().max()
    assert off[..., 1:-1, 1:-1].max() <= TORCH
    assert off.max() > 0.1  # 0.807 in `hazards.md`
    report = fold_(model, x)
    assert [each.reason for each in report.skipped] == [
        "its input comes from outside the model, and Conv2d `1` after it takes zeros for what is outside "
        '(border="pad" makes it exact): folded there it would be wrong at the border '
        f"by {off.max():.1e} relative on the example"
    ]
    assert model[0] is norm
    assert torch.equal(run(model, x), expected)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # it says that it is slow
def test_the_border_stands_where_the_norm_was() -> None:
    model = drawn(nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 2, padding="same"))).float().eval()
    x = numbers(2, 2, 4, 4).float()
    scale = model[0].weight / (model[0].running_var + model[0].eps).sqrt()
    value = model[0].running_mean - model[0].bias / scale
    expected = run(model, x)
    (touched,) = fold_(model, x, border="pad").touched
    assert touched.change == "into 1 after it, with a border around its input for the zeros around its output"
    assert repr(model[0]) == "ChannelPad(2, pads=[0, 1, 0, 1])"
    assert (model[0].value - value).abs().max() <= FOLD_FLOAT32
    assert not model[0].training
    assert repr(model[1]) == "Conv2d(2, 2, kernel_size=(2, 2), stride=(1, 1))"
    assert (run(model, x) - expected).abs().max() <= FOLD_FLOAT32 * expected.abs().max()
    for one in (copy.deepcopy(model), model):  # without samples too, and copied
        assert torch.allclose(run(one, x[0]), expected[0], atol=FOLD_FLOAT32)
    assert fold_(model, x, border="pad").title() == "0 of 0 norm layers folded"


def test_each_channel_has_a_border_of_its_own() -> None:
    pad = ChannelPad(torch.tensor([5.0, 7.0]), [1, 0])
    expected = [[[5.0, 1.0, 2.0], [7.0, 3.0, 4.0]]]
    assert pad(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).tolist() == expected


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, padding=0), nn.Conv2d(3, 4, 3, padding="valid"), nn.Conv2d(3, 4, 1, padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate"), nn.ConvTranspose2d(3, 4, 1, padding=1),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("border", ["refuse", "pad"])
def test_no_zeros_no_border(layer: nn.Module, border: Any) -> None:
    model, x = drawn(nn.Sequential(nn.BatchNorm2d(3), layer)), numbers(2, 3, 5, 5)
    expected = run(model, x)
    assert fold_(model, x, border=border).touched[0].change == "into 1 after it"
    assert type(model[0]) is nn.Identity
    assert (run(model, x) - expected).abs().max() <= TORCH * expected.abs().max()


def test_a_norm_that_maps_zero_to_zero_needs_no_border() -> None:
    for layer in (nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(3, 4, 3, stride=2)):
        model, x = drawn(nn.Sequential(nn.BatchNorm2d(3), layer)), numbers(2, 3, 5, 5)
        model[0].running_mean.zero_()
        nn.init.zeros_(model[0].bias)
        expected = run(model, x)
        assert fold_(model, x).touched[0].change == "into 1 after it"
        assert (run(model, x) - expected).abs().max() <= TORCH * expected.abs().max()


@pytest.mark.parametrize(
    ("layer", "remedy"),
    [
        (nn.ConvTranspose2d(3, 4, 3), "a transposed convolution has no border to pad"),
        (nn.ConvTranspose2d(3, 4, 1, dilation=2, output_padding=1), "a transposed convolution has no border to pad"),
        (
            nn.Conv2d(3, 4, 3, padding=1),
            "channel 1 of the norm has the weight zero, so that no border is mapped to zero",
        ),
    ],
    ids=["transposed", "output padding", "weight zero"],
)
def test_no_border_makes_up_for_it(layer: nn.Module, remedy: str) -> None:
    model, x = drawn(nn.Sequential(nn.BatchNorm2d(3), layer)), numbers(2, 3, 5, 5)
    with torch.no_grad():
        model[0].weight[1] = 0
    expected = run(model, x)
    (skipped,) = fold_(model, x, border="pad").skipped
    words = f"after it takes zeros for what is outside ({remedy}): folded there it would be wrong at the border by "
    assert words in skipped.reason
    assert torch.equal(run(model, x), expected)


def test_a_weight_of_zero_is_no_matter_where_the_channel_is_zero_anyway() -> None:
    model, x = drawn(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1))), numbers(2, 3, 5, 5)
    with torch.no_grad():
        model[0].weight[1] = model[0].bias[1] = 0
    expected = run(model, x)
    assert len(fold_(model, x, border="pad").touched) == 1
    assert model[0].value[1] == 0
    assert (run(model, x) - expected).abs().max() <= TORCH * expected.abs().max()


def test_a_norm_before_a_padded_layer_goes_into_the_layer_before_it() -> None:
    """Also when that is a norm away, and that one is folded first."""
    model = drawn(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1))
    )
    x = numbers(2, 3, 5, 5)
    expected = run(model, x)
    assert [each.change for each in fold_(model, x).touched] == ["into 0 before it"] * 2
    assert (run(model, x) - expected).abs().max() <= TORCH * expected.abs().max()
