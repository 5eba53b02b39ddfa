"""Encoders of PyTorch in eval mode have a fast path that computes layer norms whatever the norms are."""

import copy

import pytest
import torch
from torch import nn

from normlab.tools import swap_

TOKENS = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0], [1, 1, 1, 6, 0], [2, 2, 2, 2, 2]])
# float32: two orders of the same sums, over values of unit size
NEAR = 1e-5


class Encoder(nn.Module):
    def __init__(self, norm_first: bool, batch_first: bool) -> None:
        super().__init__()
        self.embed, self.batch_first = nn.Embedding(8, 8, padding_idx=0), batch_first
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first, norm_first=norm_first)
        nested = batch_first and not norm_first
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=nested)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        pad = tokens == 0
        x = self.embed(tokens)
        y = self.encoder(x if self.batch_first else x.transpose(0, 1), src_key_padding_mask=pad)
        y = y if self.batch_first else y.transpose(0, 1)
        return (y * ~pad[..., None]).sum(1)


def slow(model: nn.Module) -> torch.Tensor:
    """Eval mode without any fast path."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            return copy.deepcopy(model).eval()(TOKENS)
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("to", ["none", "batch", "layer", "group", "instance", "rms"])
def test_an_encoder_with_other_norms_computes_them_in_eval_mode(to: str, norm_first: bool, batch_first: bool) -> None:
    torch.manual_seed(0)
    model = Encoder(norm_first, batch_first)
    report = swap_(model, to, example=TOKENS, groups=2)
    assert len(report.skipped if to == "layer" else report.touched) == 5
    with torch.no_grad():  # weights that are not one, so that the fast path would be seen to use them
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn(parameter.shape))
    model.train()(TOKENS)
    expected = slow(model)
    with torch.no_grad():
        assert torch.allclose(model.eval()(TOKENS), expected, atol=NEAR)
    if to not in ("batch", "none"):
        assert not torch.allclose(expected, torch.zeros(()), atol=0.1)
        assert torch.allclose(model.train()(TOKENS), expected, atol=NEAR)  # no running statistics and no dropout


def test_layers_that_keep_their_layer_norms_keep_their_fast_path() -> None:
    model = Encoder(norm_first=False, batch_first=True)
    swap_(model, "layer", example=TOKENS)
    assert [each.activation_relu_or_gelu for each in model.encoder.layers] == [1, 1]
    assert model.encoder.use_nested_tensor
    swap_(model, "rms", example=TOKENS)
    assert [each.activation_relu_or_gelu for each in model.encoder.layers] == [0, 0]
    assert not model.encoder.use_nested_tensor


def test_attention_by_itself_is_left_alone() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attend = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(x)
            return self.attend(x, x, x, need_weights=False)[0]

    torch.manual_seed(0)
    model = Attention()
    x = torch.randn(3, 5, 8)
    report = swap_(model, "group", example=x, groups=2)
    assert [each.name for each in report.touched] == ["norm"]
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), model.train()(x), atol=NEAR)
