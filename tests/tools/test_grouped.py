"""Which parameters decay: told by the layer that owns them, and each in one group."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from normlab.errors import InvalidInputError
from normlab.tools.freeze import freeze_
from normlab.tools.grouped import param_groups
from normlab.tools.norms import ChannelRMSNorm, ChannelsLast


class LlamaRMSNorm(nn.Module):
    """As in `transformers`: no norm of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))


class FilterResponseNorm(nn.Module):
    """Its weight has four dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, 8, 1, 1))


class NormedLinear(nn.Module):
    """Called so for what it does to its weight, which is a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 4))


class Activated(nn.BatchNorm2d):
    def __init__(self) -> None:
        super().__init__(8)
        self.act = nn.PReLU()


class Token(nn.Module):
    """Parameters of the user's own, of one dimension and of none."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(8))
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(8, 2)


PARTS: list[tuple[nn.Module, set[str]]] = [
    (nn.Linear(4, 8), {"weight"}),
    (nn.Conv2d(4, 8, 3, bias=False), {"weight"}),
    (nn.ConvTranspose3d(4, 8, 3), {"weight"}),
    (nn.Embedding(5, 8), {"weight"}),
    (nn.PReLU(8), {"weight"}),
    (nn.BatchNorm2d(8), set()),
    (nn.SyncBatchNorm(8), set()),
    (nn.LayerNorm((8, 3, 3)), set()),
    (nn.GroupNorm(2, 8), set()),
    (nn.InstanceNorm2d(8, affine=True), set()),
    (nn.RMSNorm(8), set()),
    (ChannelRMSNorm(8, 1e-5), set()),
    (ChannelsLast(nn.BatchNorm1d(8)), set()),
    (LlamaRMSNorm(), set()),
    (FilterResponseNorm(), set()),
    (NormedLinear(), {"weight"}),
    (Activated(), {"act.weight"}),
    (Token(), {"cls_token", "scale", "head.weight"}),
    (nn.MultiheadAttention(8, 2, add_bias_kv=True), {"in_proj_weight", "out_proj.weight"}),
    (nn.LSTM(4, 8), {"weight_ih_l0", "weight_hh_l0"}),
    (nn.Bilinear(2, 3, 8), {"weight"}),
    (parametrizations.orthogonal(nn.Linear(8, 8)), {"parametrizations.weight.original"}),
    (parametrize.register_parametrization(nn.BatchNorm1d(8), "weight", nn.ReLU()), set()),
    (parametrize.register_parametrization(nn.Linear(8, 8), "bias", nn.ReLU()), {"weight"}),
]


@pytest.mark.parametrize(("part", "decays"), PARTS, ids=lambda value: type(value).__name__)
def test_what_decays_is_told_by_its_layer(part: nn.Module, decays: set[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Module())
    model[1].part = part
    first, second = param_groups(model, 0.25)
    assert set(first["param_names"]) == {"0.weight"} | {f"1.part.{name}" for name in decays}
    rest = {name for name, _ in part.named_parameters()} - decays
    assert set(second["param_names"]) == {"0.bias"} | {f"1.part.{name}" for name in rest}
    assert (first["weight_decay"], second["weight_decay"]) == (0.25, 0.0)
    whole = dict(model.named_parameters())
    assert all(whole[name] is each for group in (first, second)
               for name, each in zip(group["param_names"], group["params"], strict=True))  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(
    chosen=st.lists(st.integers(0, len(PARTS) - 1), max_size=6),
    frozen=st.lists(st.booleans(), min_size=60, max_size=60),
    twice=st.booleans(),
)
def test_every_parameter_that_is_trained_is_in_one_group(chosen: list[int], frozen: list[bool], twice: bool) -> None:
    model = nn.ModuleList([PARTS[index][0] for index in chosen])
    if twice:
        model.extend(list(model))
    for parameter, wanted in zip(model.parameters(), frozen, strict=False):
        parameter.requires_grad_(wanted)
    try:
        found = [id(each) for group in param_groups(model, 0.1) for each in group["params"]]
        assert len(found) == len(set(found))
        assert set(found) == {id(each) for each in model.parameters() if each.requires_grad}
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)


def test_a_parameter_of_several_owners_is_there_once() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(8, 8), "norm": nn.LayerNorm(8), "head": nn.Linear(8, 8)})
    model["head"].weight = model["embed"].weight
    model["gate"] = nn.PReLU(8)
    model["gate"].weight = model["norm"].weight
    first, second = param_groups(model, 0.1)
    assert first["param_names"] == ["embed.weight"]
    assert second["param_names"] == ["norm.weight", "norm.bias", "head.bias"]


@pytest.mark.parametrize(
    ("no_decay", "spared"),
    [
        ("cls_token", {"cls_token"}),
        (["cls_token", "head"], {"cls_token", "head.weight"}),
        ("*a*e", {"scale"}),
        (lambda name, parameter: parameter.ndim < 2, {"cls_token", "scale"}),
        ((), set()),
    ],
    ids=["a name", "two names", "a pattern", "a function", "none"],
)
def test_more_may_be_spared(no_decay: Any, spared: set[str]) -> None:
    first, second = param_groups(Token(), 0.1, no_decay=no_decay)
    assert set(first["param_names"]) == {"cls_token", "scale", "head.weight"} - spared
    assert set(second["param_names"]) == {"head.bias"} | spared


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.LBFGS])
@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Linear(3, 2, bias=False)])
def test_an_optimizer_takes_the_groups(optimizer: Any, model: nn.Module) -> None:
    groups = param_groups(model, 0.5)
    if optimizer is torch.optim.LBFGS:
        with pytest.raises(ValueError, match="doesn't support per-parameter options"):
            optimizer(groups)
        return
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    made = optimizer(groups, lr=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    for name, each in model.named_parameters():
        decays = name in groups[0]["param_names"]
        expected = before[name] * (1 - 0.5 * 0.5) if decays else before[name]
        assert torch.equal(each, expected), name  # both numbers are powers of two
    assert made.state_dict()["param_groups"][0]["param_names"] == groups[0]["param_names"]
    again = optimizer(param_groups(model, 0.1), lr=0.1)
    again.load_state_dict(made.state_dict())
    assert [group["weight_decay"] for group in again.param_groups] == [0.5, 0.0]


def test_models_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**small, vocab_size=16, num_key_value_heads=2, tie_word_embeddings=True)
    )
    first, second = param_groups(llama, 0.1)
    assert all(name.endswith(("_proj.weight", "embed_tokens.weight")) for name in first["param_names"])
    assert len(first["params"]) == 8
    assert second["param_names"] == [
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.norm.weight",
    ]
    bert = transformers.BertModel(transformers.BertConfig(**small, vocab_size=16))
    first, second = param_groups(bert, 0.1)
    assert all(name.endswith("weight") and "LayerNorm" not in name for name in first["param_names"])
    assert all("LayerNorm" in name or name.endswith("bias") for name in second["param_names"])


def test_a_wrapped_model_and_a_frozen_one() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    finally:
        torch.distributed.destroy_process_group()
    assert [group["param_names"] for group in param_groups(wrapped, 0.1)] == [
        ["module.0.weight"], ["module.0.bias", "module.1.weight", "module.1.bias"],
    ]  # fmt: skip
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    freeze_(model)
    assert param_groups(model, 0.1)[1]["param_names"] == ["0.bias", "1.weight", "1.bias"]
    freeze_(model, affine="frozen")
    assert param_groups(model, 0.1)[1]["param_names"] == ["0.bias"]


def test_what_cannot_be_grouped_is_said_at_once() -> None:
    flat = nn.Linear(2, 2)
    flat.weight._is_flat_param = True
    model = nn.ModuleDict({"flat": flat, "lazy": nn.LazyLinear(2)})
    with pytest.raises(InvalidInputError) as caught:
        param_groups(model, -1.0, no_decay="flta")
    assert str(caught.value) == (
        "param_groups: `weight_decay` must be a number, at least 0.\n  got: -1.0\n"
        "param_groups: `no_decay` must name a parameter.\n  got: 'flta'\n  fix: did you mean `flat`?\n"
        "param_groups: `model` must have all its weights.\n  got: lazy.weight is lazy\n"
        "  fix: pass one batch through it first.\n"
        "param_groups: `model` must have its parameters one by one: those of several layers are flattened into one.\n"
        "  got: FlatParameter\n  fix: wrap it with use_orig_params=True."
    )
    for wrong in (float("nan"), float("inf"), "0.1"):
        with pytest.raises(InvalidInputError):
            param_groups(nn.Linear(2, 2), wrong)  # type: ignore[arg-type]


def test_the_rule_by_dimensions_would_be_another_one() -> None:
    """What the docstring says of `ndim == 1`."""
    model = nn.ModuleList([Token(), FilterResponseNorm(), nn.LayerNorm((8, 3, 3))])
    by_dimensions = {name for name, each in model.named_parameters() if each.ndim <= 1}
    ours = set(param_groups(model, 0.1)[1]["param_names"])
    assert sorted(by_dimensions - ours) == ["0.cls_token", "0.scale"]
    assert sorted(ours - by_dimensions) == ["1.gamma", "2.bias", "2.weight"]
