"""Networks of others, built small from their configs, trained beside the stock ones."""

import copy
import pickle
from typing import Any

import pytest
import torch
from tests.tools.test_accelerate import assert_same, built, changes
from torch import nn

from normlab import accelerate_
from normlab.tools.kinds import norms_of

SMALL: dict[str, Any] = {"embedding_size": 4, "hidden_sizes": [8, 8], "depths": [1, 2]}
MOBILE = {"depth_multiplier": 0.25, "depth_divisible_by": 4, "min_depth": 4, "image_size": 32}
IMAGE = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
VOLUME = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
RELU, ADD_RELU = "ours, with relu", "ours, with add and relu"

# a config, and how often each change is made with an example; without one the second, if that is another
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, int], dict[str, int] | None]] = {
    "ResNet basic": ("ResNet", SMALL | {"layer_type": "basic"}, {RELU: 4, ADD_RELU: 3, "ours": 2}, None),
    "ResNet bottleneck": ("ResNet", SMALL | {"layer_type": "bottleneck"}, {RELU: 7, ADD_RELU: 3, "ours": 2}, None),
    "ResNet gelu": (
        "ResNet",
        SMALL | {"hidden_act": "gelu", "layer_type": "bottleneck"},
        {RELU: 6, "ours, with gelu": 1, "ours, with add and gelu": 3, "ours": 2},
        None,
    ),
    "RegNet y": ("RegNet", SMALL | {"groups_width": 4, "layer_type": "y"}, {RELU: 7, ADD_RELU: 3, "ours": 2}, None),
    "MobileNetV2": ("MobileNetV2", MOBILE | {"hidden_act": "relu"}, {RELU: 35, "ours": 17}, {"ours": 52}),
}


def network(name: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    family, config, _, _ = MODELS[name]
    return built(lambda: getattr(transformers, f"{family}Model")(getattr(transformers, f"{family}Config")(**config)))


class Called(nn.Module):
    """With its input by its place, and its first output alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=x).last_hidden_state


@pytest.mark.parametrize("given", [True, False], ids=["with an example", "without"])
@pytest.mark.parametrize("name", MODELS)
def test_of_transformers(name: str, given: bool) -> None:
    model = network(name)
    twin = copy.deepcopy(model)
    report = accelerate_(model, {"pixel_values": IMAGE} if given else None)
    _, _, shown, alone = MODELS[name]
    found = [each.partition(";")[0] for each in changes(report)]
    assert {each: found.count(each) for each in set(found)} == (shown if given or alone is None else alone)
    assert len(found) == len(norms_of(model))
    assert not given or report.error == 0
    assert_same(Called(model), Called(twin), IMAGE)
    if name == "ResNet basic":
        other = pickle.loads(pickle.dumps(model))  # noqa: S301  # our own bytes
        assert_same(Called(other), Called(copy.deepcopy(model)), IMAGE)


def test_why_a_mobilenet_wants_an_example() -> None:
    """But for those layers of it in which no activation follows."""
    found = {each.partition("`, ")[2] for each in changes(accelerate_(network("MobileNetV2")))}
    word = "which calls it, reads `config`, which may change (MobileNetV2Config)"
    assert found == {word, f"{word}; pass `example`, to see what follows"}


@pytest.mark.parametrize("given", [True, False], ids=["with an example", "without"])
@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"act": "relu"}, RELU),
        ({"act": ("leakyrelu", {"negative_slope": 0.1, "inplace": True})}, "ours, with leaky_relu"),
        ({"act": "relu", "dropout": 0.2}, RELU),
        ({"act": "prelu"}, "ours"),
        ({"act": "relu", "adn_ordering": "AND"}, "ours"),
    ],
    ids=["relu", "leaky", "dropout", "prelu", "another order"],
)
def test_a_volume_u_net(options: dict[str, Any], change: str, given: bool) -> None:
    nets = pytest.importorskip("monai.networks.nets")
    model = built(lambda: nets.UNet(3, 1, 2, (4, 8), (2,), num_res_units=2, norm="batch", **options))
    twin = copy.deepcopy(model)
    if change == "ours, with leaky_relu" and not given:
        change = "ours"  # dropout of nothing, which may become one of something, stands between
    assert set(changes(accelerate_(model, VOLUME if given else None))) == {change}
    assert_same(model, twin, VOLUME)


def test_the_norms_of_language_models() -> None:
    transformers = pytest.importorskip("transformers")
    config = {
        "hidden_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    model = transformers.BertModel(transformers.BertConfig(**config)).eval()
    twin = copy.deepcopy(model)
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    report = accelerate_(model, {"input_ids": ids})
    assert changes(report) == ["ours"] * 3
    torch.testing.assert_close(model(ids).last_hidden_state, twin(ids).last_hidden_state)
    llama = transformers.LlamaModel(transformers.LlamaConfig(**config, num_key_value_heads=2))
    report = accelerate_(llama, {"input_ids": ids})
    assert report.touched == ()
    assert {each.reason for each in report.skipped} == {
        "LlamaRMSNorm is none of the norms that have a counterpart in `normlab.layers`"
    }
